"""The project's files, and enough reading of Python, Cython and C to find functions and comments in them."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ringloop", "tests", "bench", "examples", "tools", "docs", ".ci")

# A definition's first line; what is between its brackets may go on for several.
_CYTHON_FUNCTION = re.compile(
    r"\s*(?:(?:async )?def|(?:cdef|cpdef)(?! (?:class|extern|enum|struct|union|packed)\b))"
    r"\s[^=(:#]*?(\w+)\s*\("
)
_CYTHON_TOKEN = re.compile(r'("""|\'\'\')(?:.|\n)*?\1|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*')
_C_TOKEN = re.compile(r'/\*(?:.|\n)*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'')
_C_DIRECTIVE = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.MULTILINE)
_EXTERN_BLOCK = re.compile(r"^cdef extern .*\n(?:[ \t]+.*\n|[ \t]*\n)*", re.MULTILINE)


@dataclass(frozen=True)
class Function:
    """A function's name and its first and last line, counted from 1."""

    name: str
    first: int
    last: int


def files(*suffixes: str) -> list[Path]:
    """The project's files that end with one of `suffixes`, or all of them, without what tools make."""
    found = [path for path in ROOT.iterdir() if path.suffix not in (".egg-info", ".png")]
    for folder in FOLDERS:
        found += ROOT.joinpath(folder).rglob("*")
    return sorted(
        path
        for path in found
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix not in (".so", ".new")
        and (not suffixes or path.suffix in suffixes)
    )


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def name_of(path: Path) -> str:
    """The path as people write it."""
    return str(path.relative_to(ROOT))


def listed(found: list[str]) -> str:
    """All of them, one a line: pytest itself would show a few."""
    return "\n".join(found)


def functions(path: Path) -> Iterator[Function]:
    """The functions that a file defines, nested ones too, from the `def` or return type to the last line."""
    text = path.read_text()
    if path.suffix == ".py":
        yield from _python_functions(text)
    elif path.suffix in (".pyx", ".pxd"):
        yield from _cython_functions(text)
    else:
        yield from _c_functions(text)


def _python_functions(text: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield Function(node.name, node.lineno, node.end_lineno)


def _cython_functions(text: str) -> Iterator[Function]:
    code = _without_cython_strings(text).splitlines()
    for first, line in enumerate(code):
        match = _CYTHON_FUNCTION.match(line)
        if match is None:
            continue
        end_of_header = _end_of_header(code, first)
        if not code[end_of_header].rstrip().endswith(":"):
            continue  # a declaration, or a body on the same line
        last = end_of_header
        for number in range(end_of_header + 1, len(code)):
            if code[number].strip():
                if _indentation(code[number]) <= _indentation(line):
                    break
                last = number
        yield Function(match[1], first + 1, last + 1)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _end_of_header(code: list[str], first: int) -> int:
    """The index of the line on which the brackets that `code[first]` opens are closed."""
    depth = 0
    for number in range(first, len(code)):
        depth += sum(map(code[number].count, "([{")) - sum(map(code[number].count, ")]}"))
        if depth <= 0:
            return number
    return first


def _c_functions(text: str) -> Iterator[Function]:
    for statement, first, last, has_body in c_statements(text):
        if has_body and (name := c_function_name(statement)):
            yield Function(name, first, last)


def c_statements(text: str) -> Iterator[tuple[str, int, int, bool]]:
    """The statements outside all braces: text up to `;` or `{`, first and last line, whether braces came."""
    code = without_c_comments(text)
    depth, start, header = 0, 0, ""
    for match in re.finditer(r"[{};]", code):
        if match[0] == "{":
            if depth == 0:
                header = code[start : match.start()]
            depth += 1
            continue
        if match[0] == "}":
            depth -= 1
        if depth > 0:
            continue
        begin = start + len(code[start:]) - len(code[start:].lstrip())
        has_body = match[0] == "}"
        statement = header if has_body else code[start : match.start()]
        yield (
            statement.strip(),
            code.count("\n", 0, begin) + 1,
            code.count("\n", 0, match.end()) + 1,
            has_body,
        )
        start = match.end()


def c_function_name(statement: str) -> str | None:
    """The name of the function that a statement outside all braces declares or begins, if it does."""
    match = re.match(r"(?!typedef\b)[\w\s*]*?\b(\w+)\s*\(", statement)
    return match[1] if match and "=" not in statement else None


def without_c_comments(text: str) -> str:
    """C with comments, strings and preprocessor directives blanked out, line by line."""
    return _C_DIRECTIVE.sub(_blank, _C_TOKEN.sub(_blank, text))


def without_cython_comments(text: str) -> str:
    """Cython without comments; strings stay, for what f-strings call."""
    return _CYTHON_TOKEN.sub(lambda match: "" if match[0].startswith("#") else match[0], text)


def _without_cython_strings(text: str) -> str:
    """Cython without comments, and with every line of a string as one mark where the string begins."""

    def marks(match: re.Match[str]) -> str:
        if match[0].startswith("#"):
            return ""
        column = match.start() - text.rfind("\n", 0, match.start()) - 1
        return f"\n{' ' * column}".join("…" * (match[0].count("\n") + 1))

    return _CYTHON_TOKEN.sub(marks, text)


def without_extern_blocks(text: str) -> str:
    """Cython without what `cdef extern` declares of C."""
    return _EXTERN_BLOCK.sub(_blank, text)


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """The comments of a Cython or C file, line by line, without their marks: line number and text."""
    text = path.read_text()
    token, begins = (_CYTHON_TOKEN, "#") if path.suffix in (".pyx", ".pxd") else (_C_TOKEN, "/")
    for match in token.finditer(text):
        if match[0].startswith(begins):
            first = text.count("\n", 0, match.start()) + 1
            for number, line in enumerate(match[0].split("\n"), first):
                yield number, re.sub(r"^\s*(?:#+|//+|/\*+|\*+(?!/))?\s?|\s*\*/$", "", line)


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")
