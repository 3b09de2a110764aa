"""Certificates and contexts for TLS, made anew in each run: nothing that expires lies in the repository.

`TRUSTED` is the authority of one test run; `server_context` and `client_context` are fresh each time, so that
a test may change them.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import trustme

from network.peers import TIMEOUT, Background, Pair, tcp_pair
from network.recorders import Recorder, server, until_closed

NAME = "ringloop.test"
TRUSTED = trustme.CA()
VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


@functools.cache
def _certificate(*names: str) -> trustme.LeafCert:
    return TRUSTED.issue_cert(*names)


def only(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    """The same context, which now speaks this version and no other."""
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def server_context(version: ssl.TLSVersion | None = None, *, name: str = NAME) -> ssl.SSLContext:
    """For servers: with a certificate for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _certificate(name).configure_cert(context)
    return only(context, version)


def client_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """For clients: trusts what the authority signed, and checks names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    TRUSTED.configure_trust(context)
    return only(context, version)


def with_client_certificate(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same client context, which now has a certificate to show."""
    _certificate("client@ringloop.test").configure_cert(context)
    return context


def asking_for_client_certificate(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same server context, which now insists on a client's certificate of the authority."""
    TRUSTED.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.asynccontextmanager
async def tls_connection(
    protocol: asyncio.BaseProtocol,
    make_pair: Callable[[], Pair] = tcp_pair,
    *,
    version: ssl.TLSVersion | None = None,
    **keywords: Any,
) -> AsyncIterator[tuple[asyncio.Transport, ssl.SSLSocket]]:
    """A client's TLS transport of the running loop, and the blocking TLS socket of the peer. Ends both."""
    ours, theirs = make_pair()
    handshake = Background(lambda: server_context(version).wrap_socket(theirs, server_side=True))
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: protocol, sock=ours, ssl=client_context(), server_hostname=NAME, **keywords
    )
    peer = await asyncio.to_thread(handshake.finish)
    try:
        yield transport, peer
    finally:
        peer.close()
        if ours.fileno() != -1:
            transport.abort()
        await until_closed(ours)


@contextlib.asynccontextmanager
async def both_ends(
    client: Recorder, accepted: Recorder, *, version: ssl.TLSVersion | None = None, **keywords: Any
) -> AsyncIterator[tuple[asyncio.Transport, asyncio.Transport]]:
    """Both transports of one TLS connection, both of the running loop. Ends both."""
    loop = asyncio.get_running_loop()
    async with server(lambda: accepted, ssl=server_context(version), **keywords) as (_, address):
        transport, _ = await loop.create_connection(
            lambda: client, *address, ssl=client_context(), server_hostname=NAME, **keywords
        )
        await accepted.until("connection_made")
        try:
            yield transport, accepted.transport
        finally:
            for end in (client, accepted):
                end.transport.abort()
            for end in (client, accepted):
                await end.until("connection_lost")


def handshake_of_client(sock: socket.socket, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    """A blocking client's handshake on a connected socket."""
    sock.settimeout(TIMEOUT)
    return (context or client_context()).wrap_socket(sock, server_hostname=NAME)
