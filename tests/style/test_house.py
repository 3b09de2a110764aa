"""The house rules: how long things may be, which files belong together, what must not be written anywhere."""

import ast
import re

from style.sources import ROOT, comments, files, functions, lines, listed, name_of

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 110

SOURCES = files(".py", ".pyx", ".pxd", ".c", ".h")
COMMENTED = [path for path in SOURCES if path.suffix != ".py"]  # ruff reads the comments of Python

# Put together here, so that this file passes its own tests.
POSTPONED = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:root|work|home|Users)/")

C_CODE = re.compile(
    r"[\w.\->\[\]]+\(.*\);|[\w.\->\[\]* ]+ [-+|&]?= .*;|return\b.*;|[{}]|(?:if|for|while) \(.*\).*"
)
CYTHON_CODE = re.compile(
    r"(?:cdef|cpdef|cimport|(?:async )?def|class) .*|from \S+ c?import .*|(?:else|try|finally):"
)


def test_files_are_short() -> None:
    lengths = {path: len(lines(path)) for path in SOURCES}
    long = [
        f"{name_of(path)} has {length} lines" for path, length in lengths.items() if length > FILE_LINES_MAX
    ]
    assert not long, listed(long)


def test_functions_fit_a_screen() -> None:
    long = [
        f"{name_of(path)}:{function.first} {function.name} has {function.last - function.first + 1} lines"
        for path in SOURCES
        for function in functions(path)
        if function.last - function.first >= FUNCTION_LINES_MAX
    ]
    assert not long, listed(long)


def test_lines_are_short() -> None:
    long = [
        f"{name_of(path)}:{number} has {len(line)} columns"
        for path in SOURCES
        for number, line in enumerate(lines(path), 1)
        if len(line) > LINE_COLUMNS_MAX
    ]
    assert not long, listed(long)


def test_comments_are_not_code() -> None:
    code = [
        f"{name_of(path)}:{number} {text}"
        for path in COMMENTED
        for number, text in comments(path)
        if (is_cython_code if path.suffix in (".pyx", ".pxd") else C_CODE.fullmatch)(text.strip())
    ]
    assert not code, listed(code)


def is_cython_code(text: str) -> bool:
    """Whether a comment is a statement rather than words that happen to be one, such as `None` or `a, b`."""
    if CYTHON_CODE.fullmatch(text):
        return True
    try:
        statements = ast.parse(text).body
    except SyntaxError:
        return False
    return any(
        not isinstance(statement, ast.Expr | ast.AnnAssign)
        or isinstance(getattr(statement, "value", None), ast.Call)
        for statement in statements
    )


def test_every_extension_module_has_its_door() -> None:
    modules = {path.stem for path in ROOT.glob("ringloop/*.pyx")}
    assert modules
    assert modules == {path.stem for path in ROOT.glob("ringloop/*.pxd")}


def test_nothing_is_postponed_and_no_path_is_of_one_machine() -> None:
    found = [
        f"{name_of(path)}:{number} {line.strip()}"
        for path in files()
        for number, line in enumerate(lines(path), 1)
        if POSTPONED.search(line) or MACHINE_PATH.search(line)
    ]
    assert not found, listed(found)
