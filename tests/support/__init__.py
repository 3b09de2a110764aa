"""What the tests share: loops under test, child processes, leak checks, waiting for a state, comparing with asyncio.

`conftest.py` makes fixtures of most of it. Imported as `support`, with `tests/` on the import path.
"""
