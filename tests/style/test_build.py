"""setup.py: builds each thing once, and again only what has changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from style.sources import ROOT

MODULES = "_descriptor", "_opening", "_raw"  # all of them have the same C of ringloop/native/


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project with modules in which there is nothing."""
    shutil.copytree(ROOT / "ringloop" / "native", tmp_path / "ringloop" / "native")
    for name in "setup.py", "pyproject.toml", "README.md", "LICENSE":
        shutil.copy(ROOT / name, tmp_path)
    for module in MODULES:
        (tmp_path / "ringloop" / f"{module}.pyx").write_text("nothing = None\n")
    (tmp_path / "ringloop" / "__init__.py").touch()
    return tmp_path


def build(project: Path) -> list[str]:
    """What it says that it does."""
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "8"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(done.stdout.splitlines())


def newer(path: Path) -> None:
    path.touch()
    later = path.stat().st_mtime + 1
    os.utime(path, (later, later))


def test_each_thing_once_and_what_has_changed_again(project: Path) -> None:
    native = [f"cc ringloop/native/{name}.c" for name in ("mounts", "resident", "resident_io")]
    modules = [f"cc build/cython/ringloop/{name}.c" for name in MODULES]
    translations = [f"cython ringloop/{name}.pyx" for name in MODULES]
    assert build(project) == sorted(modules + native + translations)
    assert build(project) == []
    newer(project / "ringloop" / "_raw.pyx")
    assert build(project) == ["cc build/cython/ringloop/_raw.c", "cython ringloop/_raw.pyx"]
