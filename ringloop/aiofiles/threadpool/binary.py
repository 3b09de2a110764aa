"""Binary files as aiofiles has them."""

from typing import Any

from ringloop._buffered import BufferedFile
from ringloop.aiofiles.base import AsyncBase, AsyncIndirectBase, file_methods

_AWAITED = "close flush read readinto readline readlines seek tell truncate write writelines"
_ANSWERED = "isatty seekable writable"

_buffered = file_methods(
    awaited=f"{_AWAITED} read1",
    answered=_ANSWERED,
    plain="fileno readable",
    properties="closed raw name mode",
)
_raw = file_methods(
    awaited=f"{_AWAITED} readall", answered=_ANSWERED, plain="fileno readable", properties="closed name mode"
)


@_buffered
class AsyncBufferedIOBase(AsyncBase):
    """A binary file with a buffer that is only written."""

    def detach(self) -> Any:
        """The blocking file without a buffer; this object is of no use any more.

        Raises BlockingIOError if what was written is not flushed, or while another call is not over.
        """
        file = self._file
        if not isinstance(file, BufferedFile):
            return file.detach()
        mode, closefd = file.raw.mode, file.raw.closefd
        return open(file._give_fd(), mode, buffering=0, closefd=closefd)


@file_methods(awaited="peek")
class AsyncBufferedReader(AsyncBufferedIOBase):
    """A binary file with a buffer that is read, and perhaps written, too."""


@_raw
class AsyncFileIO(AsyncBase):
    """A file without a buffer."""


@file_methods(plain="detach")
@_buffered
class AsyncIndirectBufferedIOBase(AsyncIndirectBase):
    """As AsyncBufferedIOBase, of a file that is looked up for every call."""


@file_methods(awaited="peek")
class AsyncIndirectBufferedReader(AsyncIndirectBufferedIOBase):
    """As AsyncBufferedReader, of a file that is looked up for every call."""


@_raw
class AsyncIndirectFileIO(AsyncIndirectBase):
    """As AsyncFileIO, of a file that is looked up for every call."""
