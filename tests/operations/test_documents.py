"""docs/operations.md says what the table says."""

import importlib.util

from style.sources import ROOT


def test_document_is_that_of_the_table() -> None:
    path = ROOT / "tools" / "operations.py"
    spec = importlib.util.spec_from_file_location("operations_tool", path)
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.DOCUMENT.read_text() == tool.document(), "run tools/operations.py"
