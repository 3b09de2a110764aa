"""Text files as aiofiles has them."""

from typing import Any

from ringloop._text import TextFile
from ringloop.aiofiles.base import AsyncBase, AsyncIndirectBase, file_methods

_text = file_methods(
    awaited="close flush read readline readlines seek tell truncate write writelines",
    answered="isatty seekable writable",
    plain="fileno readable",
    properties="buffer closed encoding errors line_buffering newlines name mode",
)


@_text
class AsyncTextIOWrapper(AsyncBase):
    """A text file."""

    def detach(self) -> Any:
        """The blocking binary file; this object is of no use any more.

        Raises BlockingIOError if what was written is not flushed, or while another call is not over.
        """
        file = self._file
        if not isinstance(file, TextFile):
            return file.detach()
        raw = file.buffer.raw
        mode, closefd = raw.mode, raw.closefd
        return open(file._give_fd(), mode, closefd=closefd)


@file_methods(plain="detach")
@_text
class AsyncTextIndirectIOWrapper(AsyncIndirectBase):
    """As AsyncTextIOWrapper, of a file that is looked up for every call."""
