"""An SSH server of asyncssh's, what it does with commands, and clients of it."""

import asyncio
import contextlib
import functools
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh

Process = asyncssh.SSHServerProcess[bytes]


@functools.cache
def key(name: str) -> asyncssh.SSHKey:
    """The key of somebody of that name."""
    return asyncssh.generate_private_key("ssh-ed25519", comment=name)


class Commands:
    """What the server does with a command, by its first word; a shell where there is none."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.was_cut_off = asyncio.Event()

    async def run(self, process: Process) -> None:
        name, *words = (process.command or "sh").split()
        local = {"digest": self.digest, "fail": self.fail, "wait": self.wait, "popen": self.popen}
        await (local[name](process, *words) if name in local else self.subprocess(process, name, *words))

    async def digest(self, process: Process) -> None:
        """What comes goes back, and its digest to stderr."""
        sha = hashlib.sha256()
        while data := await process.stdin.read(30_000):
            sha.update(data)
            process.stdout.write(data)
            await process.stdout.drain()
        process.stderr.write(sha.hexdigest().encode())
        process.exit(0)

    async def fail(self, process: Process, word: str) -> None:
        process.stderr.write(word.encode())
        process.exit(3)

    async def wait(self, process: Process) -> None:
        """Nothing, until the client leaves."""
        self.waiting.set()
        await process.wait_closed()
        self.was_cut_off.set()

    async def subprocess(self, process: Process, *command: str) -> None:
        """A program, by asyncio's streams."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        child = await asyncio.create_subprocess_exec(*command, **pipes)
        await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr, send_eof=False)
        await process.stdout.drain()
        await process.stderr.drain()
        process.exit(await child.wait())
        await process.wait_closed()

    async def popen(self, process: Process, *command: str) -> None:
        """A program, by pipes, which asyncssh then connects to the loop."""
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            await process.redirect(stdin=child.stdin, stdout=child.stdout)
            await process.stdout.drain()
            process.exit(await asyncio.to_thread(child.wait))
            await process.wait_closed()


class Server(asyncssh.SSHServer):
    """Lets everybody who has the right key or password do everything."""

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == f"the password of {username}"

    def connection_requested(self, *args: Any) -> bool:
        return True

    def server_requested(self, *args: Any) -> bool:
        return True

    def unix_connection_requested(self, dest_path: str) -> bool:
        return True

    def unix_server_requested(self, listen_path: str) -> bool:
        return True


@contextlib.asynccontextmanager
async def serving(directory: Path, commands: Commands | None = None) -> AsyncIterator[int]:
    """The server, whose files are those of `directory`; its port."""

    def files(channel: Any) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=os.fsencode(directory))

    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[key("server")],
        authorized_client_keys=asyncssh.import_authorized_keys(key("client").export_public_key().decode()),
        process_factory=(commands or Commands()).run,
        sftp_factory=files,
        allow_scp=True,
        encoding=None,
        config=[],
    )
    async with server:
        yield server.get_port()


def connection_to(port: int, **others: Any) -> Any:
    """What opens a connection by `async with` or `await`; nothing of its user's settings is read."""
    options = {
        "known_hosts": ([key("server").convert_to_public()], [], []),
        "client_keys": [key("client")],
        "username": "user",
    }
    return asyncssh.connect("127.0.0.1", port, config=[], agent_path=None, **{**options, **others})


@contextlib.asynccontextmanager
async def pair(
    directory: Path, commands: Commands | None = None
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A client's connection to a running server."""
    async with serving(directory, commands) as port, connection_to(port) as connection:
        yield connection
