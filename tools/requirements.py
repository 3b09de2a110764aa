"""Prints what the build and the named extras of pyproject.toml require: `requirements.py [EXTRA…]`."""

import sys
import tomllib
from pathlib import Path


def requirements(extras: list[str]) -> list[str]:
    """The requirements of the build and of `extras`, sorted, each once."""
    settings = tomllib.loads(Path(__file__).resolve().parents[1].joinpath("pyproject.toml").read_text())
    lines = list(settings["build-system"]["requires"])
    for extra in extras:
        lines += settings["project"]["optional-dependencies"][extra]
    return sorted(set(lines))


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
