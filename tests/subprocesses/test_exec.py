"""What a child gets: arguments, standard streams, fds, environment, ids; as `subprocess.Popen` gives it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest

from support.compare import outcome
from support.marks import ringloop_only

TELL = "import os, sys; "
# The fd that lists the directory is closed by the time it is looked at.
OPEN_FDS = (
    "d = '/proc/self/fd/'; "
    "print({int(n): os.readlink(d + n) for n in os.listdir(d) if os.path.lexists(d + n)})"
)


async def output(*arguments: Any, code: str, **keywords: Any) -> str:
    """What a Python child that runs `code` prints."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", TELL + code, *arguments, stdout=PIPE, **keywords
    )
    printed, _ = await child.communicate()
    assert child.returncode == 0
    return printed.decode().strip()


async def test_arguments_and_the_environment(tmp_path: Path) -> None:
    code = "print(sys.argv[1:], os.getcwd(), os.environ['COLOUR'], sep='|')"
    said = await output("a b", "", "ü", code=code, cwd=tmp_path, env={"COLOUR": "blue"})
    assert said == f"['a b', '', 'ü']|{tmp_path}|blue"


async def test_a_shell() -> None:
    child = await asyncio.create_subprocess_shell("echo $((6 * 7)); exit 3", stdout=PIPE)
    assert (await child.communicate())[0] == b"42\n"
    assert child.returncode == 3


async def test_all_three_streams_at_once() -> None:
    code = (
        "import sys; d = sys.stdin.buffer.read(); sys.stderr.write(str(len(d))); sys.stdout.buffer.write(d)"
    )
    data = os.urandom(1 << 20)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", code, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    printed, complained = await child.communicate(data)
    assert printed == data
    assert complained == b"1048576"


async def test_stderr_goes_where_stdout_goes() -> None:
    child = await asyncio.create_subprocess_shell("echo out; echo err >&2", stdout=PIPE, stderr=STDOUT)
    assert await child.communicate() == (b"out\nerr\n", None)


async def test_stdin_from_a_file_and_stdout_to_one(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"contents")
    with source.open("rb") as reader, target.open("wb") as writer:
        child = await asyncio.create_subprocess_exec("cat", stdin=reader, stdout=writer)
        assert await child.wait() == 0
    assert target.read_bytes() == b"contents"
    assert child.stdin is None
    assert child.stdout is None


async def test_stdin_from_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = await asyncio.create_subprocess_exec("cat", stdin=theirs, stdout=PIPE)
        theirs.close()
        ours.sendall(b"by socket")
        ours.shutdown(socket.SHUT_WR)
        assert (await child.communicate())[0] == b"by socket"


async def test_devnull() -> None:
    child = await asyncio.create_subprocess_exec("cat", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    assert await child.communicate() == (b"", None)


async def test_only_the_fds_that_are_passed_are_inherited() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    other = os.dup(writer)
    os.set_inheritable(other, True)
    assert eval(await output(code=OPEN_FDS, pass_fds=(other,))).keys() - {0, 1, 2} == {other}
    for fd in (reader, writer, other):
        os.close(fd)


async def test_nothing_of_the_loop_is_inherited_even_without_closing() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(lambda: None)  # so that it has made what it needs
    open_there = eval(await output(code=OPEN_FDS, close_fds=False)).values()
    assert not [target for target in open_there if "anon_inode" in target or "socket" in target]


async def test_preexec_fn_and_sessions() -> None:
    code = "print(os.getsid(0) == os.getpid(), os.nice(0))"
    assert await output(code=code, start_new_session=True) == f"True {os.nice(0)}"
    said = await output(code=code, preexec_fn=lambda: (os.setsid(), os.nice(3)))
    assert said == f"True {min(os.nice(0) + 3, 19)}"


async def test_a_failing_preexec_fn() -> None:
    def fail() -> None:
        raise ValueError

    with pytest.raises(subprocess.SubprocessError, match="preexec_fn"):
        await asyncio.create_subprocess_exec("true", preexec_fn=fail)


async def test_a_process_group() -> None:
    assert await output(code="print(os.getpgid(0) == os.getpid())", process_group=0) == "True"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
async def test_another_user() -> None:
    child = await asyncio.create_subprocess_exec(
        "sh", "-c", "id -u; id -g; id -G; umask", stdout=PIPE,
        user=1234, group=2345, extra_groups=[2345, 3456], umask=0o027,
    )  # fmt: skip
    assert (await child.communicate())[0].split() == [b"1234", b"2345", b"2345", b"3456", b"0027"]


async def test_pipesize() -> None:
    import fcntl

    child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, pipesize=1 << 18)
    assert child.stdin is not None
    pipe = child.stdin.transport.get_extra_info("pipe")
    assert fcntl.fcntl(pipe, 1032) == 1 << 18  # F_GETPIPE_SZ
    await child.communicate(b"")


async def test_errors_are_those_of_popen(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter")
    for arguments, keywords in [
        (["/nonexistent/program"], {}),
        ([str(script)], {}),
        (["true"], {"cwd": tmp_path / "nowhere"}),
        (["true"], {"stdin": 4321}),
        (["true"], {"stdout": STDOUT}),
        (["nul\0byte"], {}),
        (["true"], {"user": "no such user"}),
        (["true"], {"unknown": 1}),
    ]:
        expected = outcome(subprocess.Popen, arguments, **keywords)
        assert expected[0] == "raised"
        with pytest.raises((OSError, ValueError, TypeError, LookupError)) as raised:
            await asyncio.create_subprocess_exec(*arguments, **keywords)
        assert (type(raised.value).__name__, str(raised.value)) == expected[1:]


@pytest.mark.parametrize(
    "keywords",
    [{"universal_newlines": True}, {"shell": True}, {"bufsize": 1}, {"text": True}, {"encoding": "ascii"}],
)
async def test_text_is_refused(keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        await asyncio.create_subprocess_exec("true", **keywords)


async def test_signals_are_as_new_in_the_child() -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    code = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    assert await output(code=code) == "set()"
    loop.remove_signal_handler(signal.SIGUSR1)


@ringloop_only
def test_a_loop_in_preexec_fn_is_dead(run_child: Any) -> None:
    run_child(
        """
        import asyncio

        async def main():
            loop = asyncio.get_running_loop()
            child = await asyncio.create_subprocess_exec(
                "true", preexec_fn=lambda: asyncio.get_event_loop_policy() and None)
            assert await child.wait() == 0
            # The parent's loop goes on.
            await asyncio.sleep(0.01)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
        """
    )
