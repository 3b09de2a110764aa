"""Every public name is documented, and what the documents name exists."""

import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import ringloop
from style.public import public_attributes, public_names
from style.sources import ROOT, files, listed, name_of

CODE = re.compile(r"(?s:^```.*?^```)|`[^`\n]+`|^ {4}.*$", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def code_in_documents(pattern: str) -> Iterator[tuple[Path, str]]:
    """What the pattern's group finds in the code of README.md and docs/, with the document."""
    for document in files(".md"):
        for code in re.findall(CODE, document.read_text()):
            yield from ((document, found) for found in re.findall(pattern, code))


def test_public_names_have_docstrings() -> None:
    missing = [
        name
        for name, value in public_names().items()
        if not name.startswith("__")
        and not (vars(value).get("__doc__") if isinstance(value, type) else value.__doc__)
    ]
    assert not missing, listed(missing)


def test_public_methods_have_docstrings() -> None:
    missing = [
        f"{cls.__module__}.{cls.__qualname__}.{name}"
        for cls, name in public_attributes()
        if (
            callable(value := inspect.getattr_static(cls, name)) or isinstance(value, property | staticmethod)
        )
        and not value.__doc__
    ]
    assert not missing, listed(missing)


def test_modules_say_what_they_are() -> None:
    missing = [
        name_of(path)
        for path in files(".py", ".pyx", ".pxd", ".c", ".h")
        if not re.match(r'\s*(?:"""|/\*|# )', path.read_text() or '"""')
    ]
    assert not missing, listed(missing)


def test_make_targets_named_in_documents_exist() -> None:
    targets = set(TARGET.findall(ROOT.joinpath("Makefile").read_text()))
    unknown = [
        f"{name_of(document)}: make {target}"
        for document, target in code_in_documents(r"\bmake ([a-z][a-z-]*)")
        if target not in targets
    ]
    assert not unknown, listed(unknown)


def test_readme_names_every_command() -> None:
    readme = ROOT.joinpath("README.md").read_text()
    assert not [command for command in ("make run", "make test") if command not in readme]


def test_files_named_in_documents_exist() -> None:
    unknown = [
        f"{name_of(document)}: {path}"
        for document, path in code_in_documents(
            r"(?<![\w./-])((?:ringloop|tests|bench|examples|tools|docs)/[\w./-]*\w)"
        )
        if not ROOT.joinpath(path).exists()
    ]
    assert not unknown, listed(unknown)


def test_names_of_ringloop_in_documents_exist() -> None:
    unknown = [
        f"{name_of(document)}: {name}"
        for document, name in code_in_documents(r"(?<![\w./-])(ringloop(?:\.\w+)+)")
        if not exists(name)
    ]
    assert not unknown, listed(unknown)


def exists(dotted: str) -> bool:
    """Whether a name that begins with `ringloop.` can be reached by attributes and imports."""
    value: object = ringloop
    reached = "ringloop"
    for part in dotted.split(".")[1:]:
        reached += f".{part}"
        if not hasattr(value, part):
            try:
                importlib.import_module(reached)
            except ImportError:
                return False
        value = getattr(value, part)
    return True


def test_the_version_is_the_project_s() -> None:
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]
    assert ringloop.__version__ == project["version"]
