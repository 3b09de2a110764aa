"""The network as applications see it: connecting, serving, transports, `sock_*`, streams, whole applications.

`peers.py` is the other end of the wire (plain sockets and threads, no loop), `recorders.py` the protocols
that write down what a transport tells them. Tests wait for events; only a failure reaches `peers.TIMEOUT`.
"""
