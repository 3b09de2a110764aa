"""examples/static_server.py: what it answers, what it refuses, and what it holds when clients leave."""

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 20.0
LARGE = random.Random(8).randbytes(3_000_000)
MODIFIED_S = 1_600_000_000


class Server:
    """The program as it runs, and how to speak with it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.pid = process.pid
        self.port = port

    @contextlib.contextmanager
    def connect(self) -> Iterator[http.client.HTTPConnection]:
        """One connection; it connects anew if the server closed it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            yield connection

    def ask(
        self, target: str, method: str = "GET", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body; an underscore in a header's name stands for a hyphen."""
        with self.connect() as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, headers=named)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def talk(self, sent: bytes) -> bytes:
        """All that is answered to these bytes until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def files_below(self, directory: Path) -> list[str]:
        """What it has open of the tree."""
        found = []
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/{self.pid}/fd/{fd}"))
        return [target for target in found if target.startswith(f"{directory}/")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What is served; beside it lies a secret."""
    served = tmp_path / "served"
    (served / "sub").mkdir(parents=True)
    (served / "hello.txt").write_text("hello, world")
    (served / "large").write_bytes(LARGE)
    (served / "empty").touch()
    (served / "a b%.html").write_text("<p>")
    (served / "sub" / "index.html").write_text("index")
    (tmp_path / "secret").write_text("secret")
    (served / "link").symlink_to("../secret")
    (served / "out").symlink_to("..", target_is_directory=True)
    (served / "absolute").symlink_to(tmp_path / "secret")
    os.mkfifo(served / "fifo")
    os.utime(served / "hello.txt", (MODIFIED_S, MODIFIED_S))
    return served


@pytest.fixture(params=["ringloop", "asyncio"])
def server(request: pytest.FixtureRequest, tree: Path) -> Iterator[Server]:
    """The program on one loop, then on the other."""
    command = [sys.executable, ROOT / "examples" / "static_server.py", tree, "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    # Who runs the tests in the background ignores SIGINT, which a child would inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*command, "--loop", request.param], env=environment, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            signal.signal(signal.SIGINT, before)
            assert process.stdout is not None
            port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
            yield Server(process, port)
            # SIGINT ends it, also while clients are connected, and it has nothing to complain of.
            assert process.poll() is None
            with socket.create_connection(("127.0.0.1", port), TIMEOUT) as idle:
                idle.sendall(b"GET /hello.txt HTTP/1.1\r\nHost: x\r\n\r\n")
                assert idle.recv(1000).startswith(b"HTTP/1.1 200")
                process.send_signal(signal.SIGINT)
                if request.param == "asyncio":
                    # Its runner has no wake-up fd: a signal just before the loop waits ends no wait.
                    with contextlib.suppress(OSError):
                        idle.sendall(b"G")
                _, complaints = process.communicate(timeout=TIMEOUT)
            assert (process.returncode, complaints) == (130, "")
        finally:
            process.kill()


def test_whole_files(server: Server) -> None:
    status, headers, body = server.ask("/hello.txt")
    assert (status, body) == (200, b"hello, world")
    assert headers["Content-Type"] == "text/plain"
    assert headers["Last-Modified"] == formatdate(MODIFIED_S, usegmt=True)
    assert server.ask("/large")[2] == LARGE
    assert server.ask("/empty")[::2] == (200, b"")
    assert server.ask("/a%20b%25.html?query#x")[::2] == (200, b"<p>")
    assert server.ask("http://elsewhere/hello.txt")[2] == b"hello, world"


def test_head_has_the_headers_and_no_body(server: Server) -> None:
    _, of_get, _ = server.ask("/large")
    status, headers, body = server.ask("/large", "HEAD")
    assert (status, body) == (200, b"")
    assert [of_get[name] for name in ("Content-Length", "ETag", "Last-Modified")] == [
        headers[name] for name in ("Content-Length", "ETag", "Last-Modified")
    ]
    assert server.ask("/none", "HEAD")[::2] == (404, b"")


def test_directories(server: Server) -> None:
    assert server.ask("/sub/")[::2] == (200, b"index")
    status, headers, _ = server.ask("//sub")
    assert (status, headers["Location"]) == (301, "/sub/")
    assert server.ask("/")[0] == 404


@pytest.mark.parametrize(
    "target",
    ["/../secret", "/sub/../../secret", "/%2e%2e/secret", "/sub/..%2f..%2fsecret", "/..", "/link",
     "/absolute", "/out/secret", "/out/", "//../secret", "/none", "/hello.txt/x", "/fifo",
     "/" + "x" * 300, "/%00", "secret"],
)  # fmt: skip
def test_nothing_else_can_be_reached(server: Server, target: str) -> None:
    status, _, body = server.ask(target)
    assert status in (400, 403, 404)
    assert b"secret" not in body


@pytest.mark.parametrize(
    "wanted, first, end",
    [("0-0", 0, 1), ("5-", 5, len(LARGE)), ("-7", len(LARGE) - 7, len(LARGE)), ("-9999999", 0, len(LARGE)),
     ("300000-899999", 300_000, 900_000), ("2999990-9999999", 2_999_990, 3_000_000)],
)  # fmt: skip
def test_ranges(server: Server, wanted: str, first: int, end: int) -> None:
    status, headers, body = server.ask("/large", Range=f"bytes={wanted}")
    assert (status, body) == (206, LARGE[first:end])
    assert headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(LARGE)}"


def test_ranges_that_are_none(server: Server) -> None:
    for wanted in ("bytes=3000000-", "bytes=-0"):
        status, headers, _ = server.ask("/large", Range=wanted)
        assert (status, headers["Content-Range"]) == (416, "bytes */3000000")
    for wanted in ("bytes=9-3", "bytes=-", "lines=1-2", "bytes=0-1,4-5"):
        assert server.ask("/hello.txt", Range=wanted)[::2] == (200, b"hello, world")
    assert server.ask("/hello.txt", Range="bytes=0-1", If_Range='"other"')[0] == 200
    etag = server.ask("/hello.txt")[1]["ETag"]
    assert server.ask("/hello.txt", Range="bytes=0-1", If_Range=etag)[::2] == (206, b"he")


def test_conditions(server: Server) -> None:
    etag = server.ask("/hello.txt")[1]["ETag"]
    at, before = formatdate(MODIFIED_S, usegmt=True), formatdate(MODIFIED_S - 1, usegmt=True)
    assert server.ask("/hello.txt", If_Modified_Since=at)[::2] == (304, b"")
    assert server.ask("/hello.txt", If_Modified_Since=before)[0] == 200
    assert server.ask("/hello.txt", If_Modified_Since="yesterday")[0] == 200
    assert server.ask("/hello.txt", If_None_Match=f'"x", W/{etag}')[0] == 304
    assert server.ask("/hello.txt", If_None_Match='"x"', If_Modified_Since=at)[0] == 200


def test_connections_are_kept_as_they_are_asked_to_be(server: Server) -> None:
    with server.connect() as connection:
        connection.connect()
        sock = connection.sock
        for target in ("/hello.txt", "/none", "/large", "/sub/", "/../secret", "/hello.txt"):
            connection.request("GET", target)
            connection.getresponse().read()
            assert connection.sock is sock
    one = b"GET /hello.txt HTTP/1.1\r\nHost: x\r\n\r\n"
    assert server.talk(one * 3).count(b"hello, world") == 3
    assert (
        server.talk(one.replace(b"Host: x", b"Host: x\r\nConnection: close") * 3).count(b"hello, world") == 1
    )
    assert server.talk(b"GET /hello.txt HTTP/1.0\r\n\r\n" * 3).count(b"hello, world") == 1


def test_requests_that_are_none(server: Server) -> None:
    for sent, status in (
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /hello.txt HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /hello.txt HTTP/1.1\r\nHost: x\r\nbad header: 1\r\n\r\n", b"400"),
        (b"GET /hello.txt HTTP/3.0\r\nHost: x\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
    ):
        answer = server.talk(sent)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Connection: close" in answer
    assert server.ask("/hello.txt", "PUT")[0] == 405
    # What is sent as a body is never taken for a request.
    smuggled = b"GET /hello.txt HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"GET /sub/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    assert b"hello, world" not in server.talk(head + smuggled)


def test_clients_that_leave_in_the_middle_leave_nothing(server: Server, tree: Path) -> None:
    (tree / "huge").write_bytes(b"")
    os.truncate(tree / "huge", 1 << 30)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as sock:
            sock.sendall(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as sock:
        sock.sendall(b"GET /hu")
    wait_until(lambda: not server.files_below(tree), "no file of the tree is open")
    assert server.ask("/hello.txt")[2] == b"hello, world"


def test_a_file_that_becomes_shorter_ends_the_connection(server: Server, tree: Path) -> None:
    (tree / "huge").write_bytes(b"")
    os.truncate(tree / "huge", 1 << 26)
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as sock:
        sock.sendall(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        os.truncate(tree / "huge", 0)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(1 << 20):
                received += len(piece)
        assert received < 1 << 26
    assert server.ask("/hello.txt")[2] == b"hello, world"
