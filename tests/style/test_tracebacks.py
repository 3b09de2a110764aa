"""A traceback through compiled code names the file, the function and the line of the .pyx."""

import traceback

import pytest

import ringloop
from style.sources import ROOT, functions


def test_frames_of_extension_modules_are_lines_of_their_sources() -> None:
    def leave() -> None:
        raise SystemExit(3)

    loop = ringloop.new_event_loop()
    loop.call_soon(leave)
    with pytest.raises(SystemExit) as raised:
        loop.run_forever()
    loop.close()

    frames = [frame for frame in traceback.extract_tb(raised.tb) if frame.filename.endswith(".pyx")]
    assert frames
    for frame in frames:
        source = ROOT / frame.filename
        assert frame.lineno is not None
        assert frame.line, f"no text for {frame.filename}:{frame.lineno}"
        assert frame.line == source.read_text().splitlines()[frame.lineno - 1].strip()
        name = frame.name.rpartition(".")[2]
        around = [one.name for one in functions(source) if one.first <= frame.lineno <= one.last]
        assert name in around
