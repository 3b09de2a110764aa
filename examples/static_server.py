"""A static file server over TCP whose every look at the file system is an asynchronous system call.

    python examples/static_server.py DIRECTORY --port 8000

It answers GET and HEAD of HTTP/1.1, with connections that are kept, ranges, and conditions
(If-Modified-Since, If-None-Match, If-Range). `--loop asyncio` runs the same program on asyncio's own loop,
where threads make the same calls: what ringloop.os offers works there, too.

Nothing outside DIRECTORY can be reached: each part of a path is opened by its name alone, in the directory
opened before it, and symbolic links are not followed. So no name leads out, also not while somebody
moves directories about.
"""

import argparse
import asyncio
import errno
import functools
import logging
import mimetypes
import os
import re
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

import ringloop

PIECE_BYTES = 256 * 1024  # read and handed to the transport at a time
HEAD_BYTES_MAX = 16 * 1024  # of a request
IDLE_S = 60.0  # how long a client may take for a whole request
FINISH_S = 5.0  # how long one that is to go may take to read the last answer

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO is to be opened at once
_INDEX = b"index.html"

_STATUS_OF_ERROR = {
    errno.ENOENT: HTTPStatus.NOT_FOUND,
    errno.ENOTDIR: HTTPStatus.NOT_FOUND,
    errno.ELOOP: HTTPStatus.NOT_FOUND,  # a symbolic link
    errno.ENAMETOOLONG: HTTPStatus.NOT_FOUND,
    errno.ENXIO: HTTPStatus.NOT_FOUND,  # a socket
    errno.EACCES: HTTPStatus.FORBIDDEN,
    errno.EPERM: HTTPStatus.FORBIDDEN,
    errno.EMFILE: HTTPStatus.SERVICE_UNAVAILABLE,
    errno.ENFILE: HTTPStatus.SERVICE_UNAVAILABLE,
}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")

log = logging.getLogger("static_server")


class Files(Protocol):
    """The calls that the server makes. The module ringloop.os has them; a comparison may bring others."""

    @property
    def open(self) -> Callable[..., Awaitable[int]]:
        """As os.open."""

    @property
    def fstat(self) -> Callable[[int], Awaitable[os.stat_result]]:
        """As os.fstat."""

    @property
    def pread(self) -> Callable[[int, int, int], Awaitable[bytes]]:
        """As os.pread."""

    @property
    def close(self) -> Callable[[int], Awaitable[None]]:
        """As os.close."""


class Refusal(Exception):
    """What a request is answered with instead of a file."""

    def __init__(self, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True)
class Request:
    """The head of one request. Names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    keeps_connection: bool


def parse_request(head: bytes) -> Request:
    """Raises Refusal with what is wrong."""
    first, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[1]:
        raise Refusal(HTTPStatus.BAD_REQUEST)
    method, target, version = parts
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    headers: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise Refusal(HTTPStatus.BAD_REQUEST)
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if version == "HTTP/1.1" and "host" not in headers:
        raise Refusal(HTTPStatus.BAD_REQUEST)
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    keeps = "close" not in options and (version == "HTTP/1.1" or "keep-alive" in options)
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        keeps = False  # nobody reads the body, so nothing that follows it can be understood
    return Request(method, target, headers, keeps)


def names_of(target: str) -> tuple[list[bytes], bool]:
    """The names that lead from the directory to what is asked for; whether that has to be a directory."""
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if scheme.lower() not in ("http", "https") or not separator:
            raise Refusal(HTTPStatus.BAD_REQUEST)
        target = "/" + rest.partition("/")[2]
    path = unquote_to_bytes(target.partition("#")[0].partition("?")[0].encode("latin-1"))
    if b"\0" in path:
        raise Refusal(HTTPStatus.BAD_REQUEST)
    parts = path.split(b"/")
    if b".." in parts:
        raise Refusal(HTTPStatus.FORBIDDEN)
    return [part for part in parts if part not in (b"", b".")], parts[-1] in (b"", b".")


@functools.lru_cache(maxsize=4096)
def content_type(name: bytes) -> str:
    """By the name's ending."""
    kind, encoding = mimetypes.guess_type(os.fsdecode(name))
    return kind if kind and not encoding else "application/octet-stream"


@functools.lru_cache(maxsize=4096)
def http_date(seconds: int) -> str:
    """As HTTP writes times."""
    return formatdate(seconds, usegmt=True)


def has_not_changed(request: Request, etag: str, modified_s: int) -> bool:
    """Whether the client has the file already."""
    if (known := request.headers.get("if-none-match")) is not None:
        return known == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(","))
    if (since := request.headers.get("if-modified-since")) is not None:
        try:
            return modified_s <= parsedate_to_datetime(since).timestamp()
        except ValueError:
            return False
    return False


def range_of(request: Request, size: int, etag: str, modified_s: int) -> tuple[int, int] | None:
    """The first byte asked for and the one after the last; None: all. Raises Refusal if it is not there.

    Several ranges in one request are answered with the whole file, as the standard permits.
    """
    found = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if request.method != "GET" or found is None or found[1] == found[2] == "":
        return None
    if (condition := request.headers.get("if-range")) is not None and condition not in (
        etag,
        http_date(modified_s),
    ):
        return None
    if found[1] == "":
        first, end = max(0, size - int(found[2])), size
    else:
        first, end = int(found[1]), size
        if found[2] != "":
            if int(found[2]) < first:
                return None
            end = min(size, int(found[2]) + 1)
    if first >= end:
        raise Refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
    return first, end


class Site:
    """A directory that is served. Close it after the server."""

    def __init__(self, directory: str | os.PathLike[str], files: Files = ringloop.os) -> None:
        self._files = files
        self._root = os.open(directory, _DIRECTORY & ~os.O_NOFOLLOW)
        self._connections: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ends the connections, whatever they are doing."""
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        os.close(self._root)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begins with one connection: for asyncio.start_server(…, limit=HEAD_BYTES_MAX)."""
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_next(reader, writer):
                pass
        except OSError as error:
            # The client has gone, or does not go on; or a file that was promised cannot be read.
            if not isinstance(error, ConnectionError | TimeoutError):
                log.exception("a file could not be read")
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer_next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection is kept."""
        request = None
        try:
            async with asyncio.timeout(IDLE_S):
                head = await reader.readuntil(b"\r\n\r\n")
            request = parse_request(head)
            if request.method not in ("GET", "HEAD"):
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
            return await self._send_file(request, writer)
        except asyncio.IncompleteReadError:
            return False
        except asyncio.LimitOverrunError:
            refusal = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except Refusal as raised:
            refusal = raised
        keeps = request is not None and request.keeps_connection
        writer.write(_refusal(refusal, keeps, request is None or request.method != "HEAD"))
        await writer.drain()
        if not keeps:
            await _wait_for_the_end(reader, writer)
        return keeps

    async def _send_file(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        names, is_directory = names_of(request.target)
        if is_directory:
            names = [*names, _INDEX]
        try:
            fd = await self._open(names)
        except OSError as error:
            if error.errno not in _STATUS_OF_ERROR:
                log.exception("cannot open %r", request.target)
            raise Refusal(_STATUS_OF_ERROR.get(error.errno or 0, HTTPStatus.INTERNAL_SERVER_ERROR)) from error
        try:
            status = await self._files.fstat(fd)
            if stat.S_ISDIR(status.st_mode) and not is_directory:
                location = "/" + "/".join(quote_from_bytes(name) for name in names) + "/"
                raise Refusal(HTTPStatus.MOVED_PERMANENTLY, {"Location": location})
            if not stat.S_ISREG(status.st_mode):
                raise Refusal(HTTPStatus.NOT_FOUND)
            return await self._send_opened(request, writer, fd, status, content_type(names[-1]))
        finally:
            await self._files.close(fd)

    async def _open(self, names: Sequence[bytes]) -> int:
        """The file that the names lead to, one directory after the other."""
        directory = self._root
        try:
            for name in names[:-1]:
                below = await self._files.open(name, _DIRECTORY, dir_fd=directory)
                above, directory = directory, below
                if above != self._root:
                    await self._files.close(above)
            return await self._files.open(names[-1], _FILE, dir_fd=directory)
        finally:
            if directory != self._root:
                await self._files.close(directory)

    async def _send_opened(
        self, request: Request, writer: asyncio.StreamWriter, fd: int, status: os.stat_result, kind: str
    ) -> bool:
        size, modified_s = status.st_size, int(status.st_mtime)
        etag = f'"{status.st_mtime_ns:x}-{size:x}"'
        headers = {"Last-Modified": http_date(modified_s), "ETag": etag}
        keeps = request.keeps_connection
        if has_not_changed(request, etag, modified_s):
            writer.write(_head(HTTPStatus.NOT_MODIFIED, headers, keeps))
            await writer.drain()
            return keeps
        wanted = range_of(request, size, etag, modified_s)
        first, end = wanted or (0, size)
        headers |= {"Content-Type": kind, "Content-Length": str(end - first), "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        head = _head(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK, headers, keeps)
        if request.method == "HEAD":
            end = first
        # The head goes out with the first piece.
        piece = await self._files.pread(fd, min(PIECE_BYTES, end - first), first) if first < end else b""
        writer.write(head + piece)
        await writer.drain()
        while (first := first + len(piece)) < end:
            if not piece:
                raise ConnectionAbortedError("the file has become shorter than was promised")
            piece = await self._files.pread(fd, min(PIECE_BYTES, end - first), first)
            writer.write(piece)
            await writer.drain()
        return keeps


def _head(status: HTTPStatus, headers: Mapping[str, str], keeps: bool) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"Date: {http_date(int(time.time()))}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["X-Content-Type-Options: nosniff", f"Connection: {'keep-alive' if keeps else 'close'}", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _refusal(refusal: Refusal, keeps: bool, with_body: bool) -> bytes:
    body = f"{refusal.status.value} {refusal.status.phrase}\n".encode()
    headers = {"Content-Type": "text/plain", "Content-Length": str(len(body)), **refusal.headers}
    return _head(refusal.status, headers, keeps) + (body if with_body else b"")


async def _wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Lets the client read the answer: closing with bytes of a request unread would reset the connection."""
    if writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(FINISH_S):
        while await reader.read(HEAD_BYTES_MAX):
            pass


async def main(directory: str, host: str, port: int) -> None:
    """Serves until it is cancelled, as it is by SIGINT."""
    mimetypes.init()  # it reads files, and blocks
    site = Site(directory)
    try:
        server = await asyncio.start_server(site.serve, host, port, limit=HEAD_BYTES_MAX)
        try:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                print(f"serving {directory} on http://{shown}:{port}/", flush=True)
            # serve_forever() would also wait for the clients to leave, from Python 3.12 on.
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
    finally:
        await site.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("directory")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--loop", choices=("ringloop", "asyncio"), default="ringloop")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    runner = ringloop.run if arguments.loop == "ringloop" else asyncio.run
    try:
        runner(main(arguments.directory, arguments.host, arguments.port))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"static_server: {error}")
