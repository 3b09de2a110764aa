"""`python -m ringloop run PROGRAM …`: the program finds itself as under plain python, but for its loop."""

import ast
import os
import sys
import zipfile
from pathlib import Path

import pytest

from doctor.command import ringloop_command, run_python

WHO_RUNS = """
import asyncio
async def main():
    print(type(asyncio.get_running_loop()).__module__)
asyncio.run(main())
with asyncio.Runner() as runner:
    runner.run(main())
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""

WHAT_IT_SEES = """
import sys
main = sys.modules["__main__"]
print(repr({
    "argv": sys.argv,
    "path": sys.path[0],
    "file": __file__,
    "name": __name__,
    "package": __package__,
    "spec": __spec__ and __spec__.name,
    "own main": main.__dict__ is globals(),
    "loader": type(__loader__).__name__,
    "names": sorted(name for name in globals() if name != "__annotations__"),
}))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "program.py"


def test_every_new_loop_is_ringloop(script: Path) -> None:
    script.write_text(WHO_RUNS)
    child = ringloop_command("run", str(script))
    assert (child.stdout, child.stderr, child.returncode) == ("ringloop.loop\n" * 3, "", 0)


def test_plain_python_has_another_loop(script: Path) -> None:
    script.write_text(WHO_RUNS)
    assert "ringloop" not in run_python(str(script)).stdout


@pytest.mark.parametrize("arguments", [[], ["a", "--help", "-m", "x"], ["--", "-x", "--", "y"]])
def test_a_script_sees_what_it_sees_under_python(script: Path, arguments: list[str]) -> None:
    script.write_text(WHAT_IT_SEES)
    for program in (str(script), script.name):
        plain = run_python(program, *arguments, cwd=script.parent)
        child = ringloop_command("run", program, *arguments, cwd=script.parent)
        assert child.stderr == plain.stderr == ""
        assert ast.literal_eval(child.stdout) == ast.literal_eval(plain.stdout)


def test_a_link_runs_beside_its_target(tmp_path: Path) -> None:
    target = tmp_path / "inner" / "program.py"
    target.parent.mkdir()
    target.write_text("import sys, neighbour; print(sys.path[0])")
    target.with_name("neighbour.py").touch()
    link = tmp_path / "link.py"
    link.symlink_to(target)
    child = ringloop_command("run", str(link))
    assert (child.stdout, child.stderr) == (f"{target.parent}\n", "")


@pytest.mark.parametrize("arguments", [[], ["a", "--help", "-m", "x"]])
def test_a_module_sees_what_it_sees_under_python(tmp_path: Path, arguments: list[str]) -> None:
    package = tmp_path / "package"
    package.mkdir()
    package.joinpath("__init__.py").touch()
    package.joinpath("__main__.py").write_text(WHAT_IT_SEES)
    package.joinpath("module.py").write_text(WHAT_IT_SEES)
    for module in ("package", "package.module"):
        plain = run_python("-m", module, *arguments, cwd=tmp_path)
        child = ringloop_command("run", "-m", module, *arguments, cwd=tmp_path)
        assert child.stderr == plain.stderr == ""
        assert ast.literal_eval(child.stdout) == ast.literal_eval(plain.stdout)


def test_a_folder_and_a_zip_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.joinpath("__main__.py").write_text(WHAT_IT_SEES)
    archive = tmp_path / "program.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", WHAT_IT_SEES)
    for program in (folder, archive):
        plain = run_python(str(program), "a")
        child = ringloop_command("run", str(program), "a")
        assert child.stderr == plain.stderr == ""
        assert ast.literal_eval(child.stdout) == ast.literal_eval(plain.stdout)


def test_safe_path_is_respected(script: Path) -> None:
    script.write_text("import sys; print(sys.path)")
    options = {"cwd": script.parent, "env": {"PYTHONSAFEPATH": "1"}}
    assert ringloop_command("run", str(script), **options).stdout == run_python(str(script), **options).stdout


@pytest.mark.parametrize(
    "ending",
    [
        "import sys; print('end', file=sys.stderr); sys.exit(3)",
        "raise SystemExit('words')",
        "raise KeyboardInterrupt",
        "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    ],
)
def test_the_exit_status_is_the_programs(script: Path, ending: str) -> None:
    script.write_text(ending)
    plain = run_python(str(script))
    child = ringloop_command("run", str(script))
    assert plain.returncode != 0
    assert child.returncode == plain.returncode
    assert child.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]


def test_an_error_is_shown_with_the_programs_line(script: Path) -> None:
    script.write_text("\n\n1 / 0  # here\n")
    child = ringloop_command("run", str(script))
    assert child.returncode == 1
    assert f'File "{script}", line 3, in <module>\n    1 / 0  # here' in child.stderr
    assert child.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_a_missing_script_is_reported_as_python_does(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.py")
    plain = run_python(missing)
    child = ringloop_command("run", missing)
    assert (child.stderr, child.returncode) == (plain.stderr, plain.returncode)


def test_a_missing_module_is_reported_as_python_does() -> None:
    plain = run_python("-m", "no_such_module_anywhere")
    child = ringloop_command("run", "-m", "no_such_module_anywhere")
    assert (child.stderr, child.returncode) == (plain.stderr, plain.returncode)


def test_objects_of_main_can_be_pickled(script: Path) -> None:
    script.write_text(
        "import asyncio, pickle\n"
        "class Point: pass\n"
        "async def main():\n"
        "    copy = await asyncio.to_thread(lambda: pickle.loads(pickle.dumps(Point())))\n"
        "    print(type(copy) is Point)\n"
        "asyncio.run(main())\n"
    )
    assert ringloop_command("run", str(script)).stdout == "True\n"


def test_main_is_still_there_when_the_program_has_ended(script: Path) -> None:
    script.write_text(
        "import atexit, sys, threading\n"
        "word = 'still here'\n"
        "def last(): print(sys.modules['__main__'].word)\n"
        "atexit.register(last)\n"
        "go = threading.Event()\n"
        "threading.Thread(target=lambda: (threading.main_thread().join(), last())).start()\n"
    )
    child = ringloop_command("run", str(script))
    assert (child.stdout, child.stderr) == ("still here\n" * 2, "")


def test_without_a_program_it_says_how(tmp_path: Path) -> None:
    child = ringloop_command("run")
    assert child.returncode == 2
    assert "usage: python -m ringloop run [-h] [-m] PROGRAM" in child.stderr
    assert ringloop_command("run", "--help").returncode == 0


def test_the_interpreters_options_hold(script: Path) -> None:
    script.write_text("import sys; print(__debug__, sys.flags.dev_mode)")
    child = run_python("-O", "-X", "dev", "-m", "ringloop", "run", str(script))
    assert (child.stdout, child.stderr) == ("False True\n", "")


def test_processes_that_it_starts_are_not_affected(script: Path) -> None:
    script.write_text(
        "import subprocess, sys\n"
        "code = 'import asyncio; print(type(asyncio.Runner().get_loop()).__module__)'\n"
        "print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout)\n"
    )
    assert "ringloop" not in ringloop_command("run", str(script)).stdout
    assert os.path.exists(sys.executable)
