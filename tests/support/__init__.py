"""What the tests share: loops under test, child processes, leak checks, waiting, comparing with asyncio.

`conftest.py` makes fixtures of most of it. Imported as `support`, with `tests/` on the import path.
"""
