"""Workloads on files: the same work by blocking code, by aiofiles on uvloop, and by ringloop.

The table is in bench/files/table.py, one subject per file beside it; ``python -m bench.files NAME --way WAY``
measures one in a child process. Files to work on are made before, by bench/files/material.py.
"""
