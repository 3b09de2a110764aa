"""A small tree with files, pipes and sockets to try operations on; the same one each time it is made."""

import asyncio
import contextlib
import ctypes
import mmap
import os
import select
import socket
from pathlib import Path
from typing import Any

import ringloop

CONTENT = b"0123456789" * 100
LIBC = ctypes.CDLL(None, use_errno=True)


class World:
    """The tree in `root`, and descriptors that are closed with it."""

    def __init__(self, root: Path, stack: contextlib.ExitStack) -> None:
        self.root = root
        self.stack = stack
        root.mkdir()
        (root / "file").write_bytes(CONTENT)
        (root / "folder").mkdir()
        (root / "folder" / "inner").write_bytes(b"inner")
        (root / "link").symlink_to("file")
        os.setxattr(root / "file", "user.color", b"blue")

    def path(self, name: str) -> str:
        return str(self.root / name)

    def open(self, name: str = "file", flags: int = os.O_RDWR) -> int:
        return self.keep(os.open(self.root / name, flags))

    def keep(self, fd: int) -> int:
        self.stack.callback(close_if_open, fd, os.fstat(fd))
        return fd

    def pipe(self, content: bytes = b"") -> tuple[int, int]:
        ends = os.pipe()
        for end in ends:
            self.keep(end)
        os.write(ends[1], content)
        return ends

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for end in pair:
            self.stack.enter_context(end)
        return pair

    def pair_with(self, content: bytes) -> socket.socket:
        """A socket with something to receive."""
        left, right = self.sockets()
        right.send(content)
        return left

    def new_socket(self) -> socket.socket:
        return self.stack.enter_context(socket.socket())

    def listener(self) -> socket.socket:
        listener = self.new_socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        return listener

    def called(self) -> socket.socket:
        """A listener with a client that waits to be accepted."""
        listener = self.listener()
        self.new_socket().connect(listener.getsockname())
        return listener

    def memory(self) -> mmap.mmap:
        memory = mmap.mmap(-1, 8192)
        self.stack.callback(memory.close)
        return memory

    def epoll(self) -> tuple[select.epoll, int]:
        """An epoll on the read end of a pipe with something in it, and that end."""
        epoll = self.stack.enter_context(select.epoll())
        end, _ = self.pipe(b"x")
        epoll.register(end, select.EPOLLIN)
        return epoll, end

    def child(self) -> int:
        """A child that ends at once with status 3."""
        return os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ)

    def state(self) -> dict[str, Any]:
        """What the tree is like."""
        found: dict[str, Any] = {}
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            content: Any = None
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes(), sorted((n, os.getxattr(path, n)) for n in os.listxattr(path))
            name = str(path.relative_to(self.root))
            found[name] = (
                status.st_mode,
                status.st_size,
                status.st_nlink,
                status.st_uid,
                status.st_gid,
                content,
            )
        return found

    def told(self, value: Any) -> Any:
        """A result without what differs from tree to tree: inodes, times, numbers of descriptors."""
        if isinstance(value, os.stat_result):
            return value.st_mode, value.st_size, value.st_nlink
        if isinstance(value, str):
            return value.replace(str(self.root), "")
        return value


def close_if_open(fd: int, status: os.stat_result) -> None:
    """Closes what a test did not close itself."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(fd), status):
            os.close(fd)


def is_ringloop(loop: Any) -> bool:
    return isinstance(loop, ringloop.Loop)


async def mounts_learnt(world: World) -> None:
    """Waits until a worker has told what the loop may do at once."""
    if is_ringloop(asyncio.get_running_loop()):
        while not (operation := ringloop.submit("stat", world.path("file"))).done():
            await operation


def libc_call(name: str, *arguments: Any) -> int:
    """A function of the C library; raises its error."""
    result = getattr(LIBC, name)(*arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
