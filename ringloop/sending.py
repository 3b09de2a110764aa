"""The loop's methods that asyncio's `sendfile` and `sock_sendfile` stand on.

What they do is in the rooms of files, which are imported when a file is first sent: most loops send none.
"""

import asyncio
import socket
from typing import Any


class Sending(asyncio.BaseEventLoop):
    """By sendfile(2) (`_sendfile`), or by reading and writing (`_file_writing`)."""

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        from ringloop._sendfile import send_to_socket

        return int(await send_to_socket(self, sock, file, offset, count))

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        from ringloop._sendfile import send_to_transport

        return int(await send_to_transport(self, transp, file, offset, count))

    async def _sock_sendfile_fallback(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        from ringloop._file_writing import write_to_socket

        return await write_to_socket(self, sock, file, offset, count)

    async def _sendfile_fallback(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        from ringloop._file_writing import write_to_transport

        return await write_to_transport(self, transp, file, offset, count)
