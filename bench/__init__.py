"""Side-by-side measurements of event loops.

``python -m bench.run`` is the short demonstration (``make run``), ``python -m bench.compare`` the full
comparison (``make bench``). Everything measured runs in a child process of its own: a server of
``bench.servers``, driven by the load generator of ``bench/load``, or a workload of ``bench.micro``.
Nothing here is imported by the package or its tests.
"""
