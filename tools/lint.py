"""Checks style and types with every tool, also after one has found something: `lint.py [--fix]`.

--fix first puts the Python sources into the form that is asked for, and mends what ruff can mend.
"""

import argparse
import os
import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CYTHON_SOURCES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("ringloop/*.p[xy][dx]"))
FIXES = [["ruff", "check", "--fix", "--quiet", "--exit-zero"], ["ruff", "format", "--quiet"]]
CHECKS = [["ruff", "check"], ["ruff", "format", "--check"], ["cython-lint", *CYTHON_SOURCES], ["mypy"]]


def run(command: list[str]) -> int:
    """Runs one of the environment's programs in the checkout and returns its exit status."""
    print("==", *command[:3], flush=True)
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fix", action="store_true", help="mend first what can be mended")
    statuses = [run(command) for command in (FIXES if parser.parse_args().fix else []) + CHECKS]
    raise SystemExit(max(statuses))
