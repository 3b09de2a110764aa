"""Bodies of HTTP responses that come in pieces."""

import random

from aiohttp import web


async def write_in_pieces(response: web.StreamResponse, body: bytes, seed: int) -> None:
    """Writes the body in pieces of changing sizes, and its end. The same for the same seed."""
    position, sizes = 0, random.Random(seed)
    while position < len(body):
        size = sizes.choice((1, 1000, 65_536, 300_000))
        await response.write(body[position : position + size])
        position += size
    await response.write_eof()
