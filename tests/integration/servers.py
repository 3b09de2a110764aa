"""PostgreSQL and Redis, as Debian packages them: started for one test session, each in its own directory.

Neither keeps anything, neither is reached from elsewhere. They end when the session does, also when its
process is killed: the kernel then sends them the signal on which they shut down (setpriv's --pdeathsig).
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from network.tls import TRUSTED
from support.waiting import wait_until

PASSWORD = "a secret of nobody"
TRIES = 5  # of ports: another process may take one between its choice and its use
ENDS_WITHIN = 30.0  # seconds


@dataclass(frozen=True)
class Server:
    """Where a server is reached: on a port of 127.0.0.1, and by a Unix socket."""

    port: int
    socket: Path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ordinary_user() -> pwd.struct_passwd | None:
    """As whom a server runs: root's are those of another user, for PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def as_ordinary_user(command: list[str], *options: str) -> list[str]:
    """The command, run by `ordinary_user`."""
    user = ordinary_user()
    if user is not None:
        options += (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return ["setpriv", *options, *command]


def give_away(path: Path) -> None:
    """Makes the path the property of `ordinary_user`."""
    if user := ordinary_user():
        os.chown(path, user.pw_uid, user.pw_gid)


@contextlib.contextmanager
def own_directory(name: str) -> Iterator[Path]:
    """A short path, for Unix sockets' paths are bounded; the property of `ordinary_user`."""
    directory = Path(tempfile.mkdtemp(prefix=f"ringloop-{name}-"))
    give_away(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def started(command: list[str], directory: Path, is_ready: Callable[[], bool]) -> Iterator[bool]:
    """Runs a server until the block ends; False if it ended before it was ready."""
    with (
        (directory / "log").open("ab") as log,
        subprocess.Popen(
            as_ordinary_user(command, "--pdeathsig", "INT"),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or is_ready(), command[0])
            yield process.poll() is None
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL's word for "now, but in order"
            try:
                process.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextlib.contextmanager
def on_a_free_port(
    directory: Path, command: Callable[[int], list[str]], is_ready: Callable[[], bool]
) -> Iterator[int]:
    """Runs `command(port)` until the block ends, once it is ready; the port."""
    for _ in range(TRIES):
        port = free_port()
        with started(command(port), directory, is_ready) as is_up:
            if is_up:
                yield port
                return
    pytest.fail(f"the server does not start: {(directory / 'log').read_text()}")


def postgresql_program(name: str) -> str:
    """The path of one of PostgreSQL's programs, of the newest version that is here."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    if not found:
        pytest.fail(f"there is no {name} in /usr/lib/postgresql: install postgresql")
    return str(found[-1])


def write_certificate(directory: Path) -> None:
    """server.crt and server.key for localhost, which `network.tls.client_context` trusts."""
    certificate: trustme.LeafCert = TRUSTED.issue_cert("localhost", "127.0.0.1")
    for name, content in (
        ("server.crt", b"".join(blob.bytes() for blob in certificate.cert_chain_pems)),
        ("server.key", certificate.private_key_pem.bytes()),
    ):
        path = directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        give_away(path)


@contextlib.contextmanager
def postgresql() -> Iterator[Server]:
    """A new cluster whose user `postgres` has PASSWORD over TCP and needs none over the Unix socket."""
    with own_directory("postgresql") as directory:
        data, password = directory / "data", directory / "password"
        password.write_text(PASSWORD)
        give_away(password)
        words = [postgresql_program("initdb"), "--pgdata", str(data), "--username=postgres", "--no-sync"]
        words += ["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"]
        subprocess.run(
            as_ordinary_user([*words, "--pwfile", str(password)]),
            cwd=directory,
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
        )
        write_certificate(data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(directory),
            "ssl": "on",
            "max_connections": "100",
            **dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit"), "off"),
        }

        def command(port: int) -> list[str]:
            words = [postgresql_program("postgres"), "-D", str(data), "-p", str(port)]
            return [*words, *(word for item in settings.items() for word in ("-c", "=".join(item)))]

        def is_ready() -> bool:
            try:
                return "ready" in (data / "postmaster.pid").read_text()
            except FileNotFoundError:
                return False

        with on_a_free_port(directory, command, is_ready) as port:
            yield Server(port, directory / f".s.PGSQL.{port}")


@contextlib.contextmanager
def redis() -> Iterator[Server]:
    """An empty Redis that writes nothing to disk."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("there is no redis-server: install redis-server")
    with own_directory("redis") as directory:
        path = directory / "socket"

        def command(port: int) -> list[str]:
            words = [program, "--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(path)]
            return [*words, "--save", "", "--appendonly", "no", "--dir", str(directory)]

        def is_ready() -> bool:
            with socket.socket(socket.AF_UNIX) as sock:
                try:
                    sock.connect(str(path))
                except (FileNotFoundError, ConnectionRefusedError):
                    return False
                sock.sendall(b"PING\r\n")
                return sock.recv(100) == b"+PONG\r\n"

        with on_a_free_port(directory, command, is_ready) as port:
            yield Server(port, path)
