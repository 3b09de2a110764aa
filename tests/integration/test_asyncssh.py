"""asyncssh, its server and its client in one loop: commands, a shell, files and forwarded connections."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from integration.load import Rounds
from integration.ssh import Commands, connection_to, key, pair, serving

pytestmark = pytest.mark.integration

DATA = random.Random(13).randbytes(5 * 1024 * 1024)
DIGEST = hashlib.sha256(DATA).hexdigest()
NUMBERS = [number * 7919 % 100_003 for number in range(100_003)]
LINES = b"".join(b"%06d\n" % number for number in NUMBERS)
SORTED = b"".join(b"%06d\n" % number for number in sorted(NUMBERS))


async def test_commands_get_input_and_give_output_and_status(tmp_path: Path) -> None:
    async with pair(tmp_path) as connection:
        done = await connection.run("digest", input=DATA, encoding=None)
        assert (done.exit_status, done.stdout, done.stderr) == (0, DATA, DIGEST.encode())
        done = await connection.run("fail because")
        assert (done.exit_status, done.stdout, done.stderr) == (3, "", "because")
        with pytest.raises(asyncssh.ProcessError) as raised:
            await connection.run("fail again", check=True)
        assert raised.value.exit_status == 3


async def test_many_commands_share_a_connection(tmp_path: Path) -> None:
    async with pair(tmp_path) as connection:

        async def one(number: int) -> None:
            data = DATA[number * 1000 : number * 30_000]
            done = await connection.run("digest", input=data, encoding=None)
            assert done.stdout == data
            assert done.stderr == hashlib.sha256(data).hexdigest().encode()

        await asyncio.gather(*(one(number) for number in range(1, 41)))


async def test_a_program_s_streams_are_the_client_s(tmp_path: Path) -> None:
    async with pair(tmp_path) as connection:
        done = await connection.run("sort", input=LINES, encoding=None)
        assert (done.exit_status, done.stdout) == (0, SORTED)


async def test_a_program_s_pipes_are_the_client_s(tmp_path: Path) -> None:
    # No more than a pipe takes at once: asyncio's transport is lost twice if resume_writing writes EOF.
    lines = LINES[: 8000 * 7]
    async with pair(tmp_path) as connection:
        done = await connection.run("popen sort", input=lines, encoding=None)
        assert (done.exit_status, done.stdout) == (0, b"".join(sorted(lines.splitlines(keepends=True))))


async def test_a_shell_answers_line_by_line(tmp_path: Path) -> None:
    async with pair(tmp_path) as connection, connection.create_process() as process:
        for number in range(200):
            process.stdin.write(f"echo $(({number} * 7))\n")
            assert await process.stdout.readline() == f"{number * 7}\n"
        process.stdin.write("echo wrong >&2\n")
        assert await process.stderr.readline() == "wrong\n"
        process.stdin.write("exit 5\n")
        assert (await process.wait()).exit_status == 5


async def test_a_client_s_process_is_redirected_to_files_and_programs(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(LINES)
    async with pair(tmp_path) as connection:
        done = await connection.run("sort", stdin=source, stdout=target, encoding=None)
        assert (done.exit_status, target.read_bytes()) == (0, SORTED)
        local = await asyncio.create_subprocess_exec(
            "sort", "-r", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert local.stdout is not None
        reading = asyncio.create_task(local.stdout.read())
        await connection.run("digest", stdin=source, stdout=local.stdin, encoding=None)
        assert await reading == b"".join(reversed(SORTED.splitlines(keepends=True)))
        assert await local.wait() == 0


async def carry_files(connection: asyncssh.SSHClientConnection, directory: Path, name: str) -> None:
    """There and back: what comes is what went."""
    source, back = directory / f"{name}.source", directory / f"{name}.back"
    source.write_bytes(DATA)
    async with connection.start_sftp_client() as sftp:
        await sftp.put(source, f"/{name}.there")
        assert (await sftp.stat(f"/{name}.there")).size == len(DATA)
        await sftp.get(f"/{name}.there", back)
        async with sftp.open(f"/{name}.there", "rb+") as file:
            await file.seek(1000)
            assert await file.read(5000) == DATA[1000:6000]
            await file.write(b"changed", 3)
        await sftp.rename(f"/{name}.there", f"/{name}.moved")
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await sftp.stat(f"/{name}.there")
        assert f"{name}.moved" in await sftp.listdir("/")
        assert hashlib.sha256(back.read_bytes()).hexdigest() == DIGEST
        assert (directory / f"{name}.moved").read_bytes() == DATA[:3] + b"changed" + DATA[10:]
        await sftp.remove(f"/{name}.moved")
    source.unlink()
    back.unlink()


async def test_files_are_carried_whole(tmp_path: Path) -> None:
    async with pair(tmp_path) as connection:
        await carry_files(connection, tmp_path, "alone")
        await asyncio.gather(*(carry_files(connection, tmp_path, f"file{number}") for number in range(4)))
        async with connection.start_sftp_client() as sftp:
            assert set(await sftp.listdir("/")) == {".", ".."}


async def test_a_tree_is_copied_by_scp(tmp_path: Path) -> None:
    tree = tmp_path / "tree" / "in" / "it"
    tree.mkdir(parents=True)
    for number in range(30):
        (tree / str(number)).write_bytes(DATA[: number * 10_000])
    async with pair(tmp_path) as connection:
        await asyncssh.scp(tmp_path / "tree", (connection, "/there"), recurse=True)
        await asyncssh.scp((connection, "/there"), tmp_path / "back", recurse=True)
    for number in range(30):
        assert (tmp_path / "back" / "in" / "it" / str(number)).read_bytes() == DATA[: number * 10_000]


@contextlib.asynccontextmanager
async def reversing() -> AsyncIterator[int]:
    """A server that sends back what it got until EOF, reversed; its port."""

    async def reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(reverse, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    """The reverse of `data` comes back."""
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data[::-1]
    writer.close()
    await writer.wait_closed()


async def forward_every_way(connection: asyncssh.SSHClientConnection, directory: Path) -> None:
    """Many connections through each kind of forwarding."""
    path = str(directory / "forwarded")
    async with (
        reversing() as port,
        await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", port) as local,
        await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port) as remote,
        await connection.forward_socks("127.0.0.1", 0),
        await connection.forward_local_path_to_port(path, "127.0.0.1", port),
    ):
        for number in range(10):
            data = DATA[: number * 40_000]
            streams = await asyncio.gather(
                asyncio.open_connection("127.0.0.1", local.get_port()),
                asyncio.open_connection("127.0.0.1", remote.get_port()),
                asyncio.open_unix_connection(path),
            )
            await asyncio.gather(*(ask(reader, writer, data) for reader, writer in streams))
    Path(path).unlink()


async def test_connections_are_forwarded(tmp_path: Path) -> None:
    async with pair(tmp_path) as connection:
        await forward_every_way(connection, tmp_path)


async def test_a_connection_goes_through_another(tmp_path: Path) -> None:
    async with pair(tmp_path) as outer, serving(tmp_path) as port, connection_to(port, tunnel=outer) as inner:
        done = await inner.run("digest", input=DATA, encoding=None)
        assert done.stdout == DATA


async def test_a_client_that_leaves_is_noticed(tmp_path: Path) -> None:
    async def wait_for_ever() -> None:
        async with connection.create_process("wait") as process:
            started.set()
            await process.wait()

    started = asyncio.Event()
    commands = Commands()
    async with pair(tmp_path, commands) as connection:
        running = asyncio.create_task(wait_for_ever())
        await asyncio.gather(started.wait(), commands.waiting.wait())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await commands.was_cut_off.wait()
        assert (await connection.run("digest", input="still here")).stdout == "still here"


async def test_a_connection_that_breaks_off_is_noticed_at_both_ends(tmp_path: Path) -> None:
    commands = Commands()
    async with pair(tmp_path, commands) as connection:
        running = asyncio.create_task(connection.run("wait"))
        await commands.waiting.wait()
        connection.abort()
        assert (await running).exit_status is None
        await commands.was_cut_off.wait()


async def test_what_is_refused_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with connection_to(port, client_keys=None, password="the password of user") as connection:
            assert (await connection.run("digest", input="x")).stdout == "x"
        with pytest.raises(asyncssh.PermissionDenied):
            await connection_to(port, client_keys=[key("stranger")])
        with pytest.raises(asyncssh.PermissionDenied):
            await connection_to(port, client_keys=None, password="a guess")
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            await connection_to(port, known_hosts=([key("stranger").convert_to_public()], [], []))
    with pytest.raises(ConnectionRefusedError):
        await connection_to(port)


async def test_load(tmp_path: Path, rounds: Rounds) -> None:
    async def one_round(number: int) -> None:
        async with pair(tmp_path) as connection:
            results = await asyncio.gather(
                *(connection.run("sort", input=LINES, encoding=None) for _ in range(4)),
                carry_files(connection, tmp_path, "file"),
                forward_every_way(connection, tmp_path),
            )
            assert [result.stdout for result in results[:4]] == [SORTED] * 4

    await rounds.run(one_round)
