"""`python -m ringloop`: the doctor. `python -m ringloop run SCRIPT …`: any program with ringloop as its loop.

A program that is run this way finds itself as under `python SCRIPT` or `python -m MODULE`: a `__main__`
module of its own, its `sys.argv`, its `sys.path[0]`, its exit status.
"""

import argparse
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
import types
from typing import Any

import ringloop
from ringloop import doctor


def main() -> int:
    """Does what `sys.argv` asks for. Returns the doctor's exit status: 0 where io_uring works, else 1."""
    arguments = _parser().parse_args()
    if arguments.command == "run":
        ringloop.install()
        if arguments.module:
            _run_module(arguments.program)
        else:
            _run_script(arguments.program)
        return 0
    works, report = doctor.examine(ringloop.__version__)
    _tell(report)
    return 0 if works else 1


def _tell(report: str) -> None:
    try:
        print(report, flush=True)
    except BrokenPipeError:
        # Its reader has enough, as `| head`. What the interpreter flushes at its end would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ringloop",
        description="Without a command: tells whether io_uring works here, what is permitted, and what a "
        "loop would use. The exit status is 0 where io_uring works, else 1.",
    )
    parser.add_argument("--version", action="version", version=f"ringloop {ringloop.__version__}")
    run = parser.add_subparsers(dest="command", metavar="run").add_parser(
        "run",
        help="run a program with ringloop as its event loop",
        usage="python -m ringloop run [-h] [-m] PROGRAM [ARGUMENT ...]",
        description="Runs a program as `python PROGRAM` does; asyncio.run, asyncio.Runner and "
        "asyncio.new_event_loop give it ringloop. Processes that it starts are not affected.",
    )
    run.add_argument(
        "-m", dest="module", action="store_true", help="PROGRAM is a module, as in `python -m PROGRAM`"
    )
    # PARSER, as for subcommands: behind the first word that is no option nothing is looked at, not even "--".
    run.add_argument(
        "program",
        metavar="PROGRAM",
        nargs=argparse.PARSER,
        help="a script with its arguments; or a folder or zip file with a __main__.py",
    )
    return parser


def _fresh_main() -> dict[str, Any]:
    """Replaces the module __main__, which is this one, and returns the namespace of the new one."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    return module.__dict__


def _run_module(argv: list[str]) -> None:
    sys.argv[:] = argv
    _fresh_main()
    # What `python -m` itself calls; runpy.run_module would take the module away again while threads still
    # run.
    runpy._run_module_as_main(argv[0])  # type: ignore[attr-defined]


def _run_script(argv: list[str]) -> None:
    sys.argv[:] = argv
    path = argv[0]
    namespace = _fresh_main()
    if pkgutil.get_importer(path) is not None:  # a folder or a zip file
        _set_first_path(path)
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        return
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    path = os.path.abspath(path)
    code = _load(path)
    namespace["__file__"] = path
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None
    namespace["__loader__"] = importlib.machinery.SourceFileLoader("__main__", path)
    exec(code, namespace)


def _set_first_path(entry: str) -> None:
    """Python put the working directory there for `-m`, unless it was told not to (-P, -I, PYTHONSAFEPATH)."""
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _load(path: str) -> types.CodeType:
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        # The interpreter's own words and status for `python SCRIPT`.
        reason = f"[Errno {error.errno}] {error.strerror}"
        print(f"{sys.orig_argv[0]}: can't open file {path!r}: {reason}", file=sys.stderr)
        raise SystemExit(2) from None
    return compile(source, path, "exec", dont_inherit=True)


if __name__ == "__main__":
    sys.exit(main())
