"""Copying the content of one file to another, and what belongs to a file beside its content.

`ringloop.shutil` and `Path.copy` stand on it.
"""

import errno
from os import O_CLOEXEC, O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY, fspath, stat_result, strerror
from stat import S_IMODE, S_ISDIR
from typing import Any

from ringloop import os
from ringloop._closing import close_surely

# What a file that is read and written piece by piece is copied by, in bytes.
_PIECE_BYTES = 256 * 1024
_REQUEST_BYTES_MIN = 8 * 1024 * 1024

# Extended attributes that a file system does not have, or does not let us have.
NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENODATA, errno.EINVAL)
REFUSED_ATTRIBUTES = (*NO_ATTRIBUTES, errno.EPERM, errno.EACCES)


async def copy_file(source: Any, target: Any) -> None:
    """Makes the content of the file at one path that of the file at another."""
    readable = await os.open(source, O_RDONLY | O_CLOEXEC)
    try:
        status = await os.fstat(readable)
        if S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, strerror(errno.EISDIR), fspath(source))
        writable = await os.open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        try:
            names = fspath(source), fspath(target)
            await _copy_content(readable, writable, max(status.st_size, _REQUEST_BYTES_MIN), names)
        finally:
            await close_surely(writable)
    finally:
        await close_surely(readable)


async def _copy_content(source: int, target: int, request_bytes: int, names: tuple[Any, Any]) -> None:
    """In the kernel if it can: by copy_file_range, which shares the blocks where file systems do that, or by
    sendfile. Errors of these tell both `names`.
    """
    if await _copied_by_range(source, target, request_bytes, names):
        return
    if not await _copied_by_sendfile(source, target, request_bytes, names):
        await _copy_by_pieces(source, target)


async def _copied_by_range(source: int, target: int, request_bytes: int, names: tuple[Any, Any]) -> bool:
    """False: nothing was copied, and not for want of anything to copy that anybody could know of."""
    offset = 0
    while True:
        try:
            count = await os.copy_file_range(source, target, request_bytes, offset_dst=offset)
        except OSError as error:
            if offset > 0 or error.errno == errno.ENOSPC:
                raise OSError(error.errno, error.strerror, names[0], None, names[1]) from None
            return False
        if count == 0:
            # Of files that are made as they are read, as those in /proc, it copies nothing and says so.
            return offset > 0
        offset += count


async def _copied_by_sendfile(source: int, target: int, request_bytes: int, names: tuple[Any, Any]) -> bool:
    """False: nothing was copied, and sendfile refuses to."""
    offset = 0
    while True:
        try:
            count = await os.sendfile(target, source, offset, request_bytes)
        except OSError as error:
            if offset > 0 or error.errno == errno.ENOSPC:
                raise OSError(error.errno, error.strerror, names[0], None, names[1]) from None
            return False
        if count == 0:
            return True
        offset += count


async def _copy_by_pieces(source: int, target: int) -> None:
    while piece := await os.read(source, _PIECE_BYTES):
        rest = memoryview(piece)
        while rest:
            rest = rest[await os.write(target, rest) :]


async def _copy_attributes(
    source: Any, target: Any, *, follow_symlinks: bool, hidden: tuple[int, ...]
) -> None:
    try:
        names = await os.listxattr(source, follow_symlinks=follow_symlinks)
    except OSError as error:
        if error.errno not in hidden:
            raise
        return
    for name in names:
        try:
            value = await os.getxattr(source, name, follow_symlinks=follow_symlinks)
            await os.setxattr(target, name, value, follow_symlinks=follow_symlinks)
        except OSError as error:
            if error.errno not in REFUSED_ATTRIBUTES:
                raise


async def copy_status(
    source: Any, target: Any, status: stat_result, *, follow_symlinks: bool, hidden: tuple[int, ...]
) -> None:
    """Gives `target` the times, extended attributes and permissions of `source`, whose status is `status`.

    The attributes come before the permissions, which may forbid to set them. A symbolic link has none of the
    latter. `hidden`: the errors of listing the attributes that are none.
    """
    times_ns = status.st_atime_ns, status.st_mtime_ns
    await os.utime(target, ns=times_ns, follow_symlinks=follow_symlinks)
    await _copy_attributes(source, target, follow_symlinks=follow_symlinks, hidden=hidden)
    if follow_symlinks:
        await os.chmod(target, S_IMODE(status.st_mode))
