"""TLS connections that work: versions, names, certificates, what get_extra_info tells, streams, start_tls."""

import asyncio
import socket
import ssl
from asyncio import trsock
from pathlib import Path
from typing import Any

import pytest

from network.peers import Background, receive_exactly, tcp_pair
from network.recorders import AnyRecorder, Recorder, Recording, server, until_closed
from network.tls import (
    NAME,
    VERSIONS,
    asking_for_client_certificate,
    both_ends,
    client_context,
    handshake_of_client,
    server_context,
    tls_connection,
    with_client_certificate,
)  # fmt: skip


@pytest.fixture(params=VERSIONS.values(), ids=list(VERSIONS))
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    """A version of TLS."""
    return request.param


async def test_a_client_speaks_with_a_foreign_server(
    version: ssl.TLSVersion, kind: type[AnyRecorder]
) -> None:
    protocol = kind()
    async with tls_connection(protocol, version=version) as (transport, peer):
        transport.write(b"question")
        assert await asyncio.to_thread(receive_exactly, peer, 8) == b"question"
        peer.sendall(b"answer")
        await protocol.until_received(6)
        plain = Background(peer.unwrap)
        await protocol.until("connection_lost")
        await asyncio.to_thread(plain.finish)
        assert protocol.trace == [
            ("connection_made",), ("data_received", b"answer"), ("eof_received",), ("connection_lost", None),
        ]  # fmt: skip


async def test_a_protocol_may_resize_its_buffer_when_it_is_told_of_data(version: ssl.TLSVersion) -> None:
    class Growing(Recording, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            self.buffer = bytearray(32 * 1024)
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            del self.buffer[nbytes:]
            self.happened("data_received", bytes(self.buffer))

    protocol = Growing()
    async with tls_connection(protocol, version=version) as (_, peer):
        for data in (b"first", bytes(40_000), b"last"):
            peer.sendall(data)
            await protocol.until(lambda data=data: protocol.received.endswith(data))  # type: ignore[misc]
        assert protocol.received == b"first" + bytes(40_000) + b"last"


async def test_a_server_speaks_with_a_foreign_client(
    version: ssl.TLSVersion, kind: type[AnyRecorder]
) -> None:
    protocol = kind(data_received=lambda self: self.transport.write(self.received))
    async with server(lambda: protocol, ssl=server_context(version)) as (_, address):

        def converse() -> tuple[bytes, str | None]:
            with handshake_of_client(socket.create_connection(address)) as peer:
                peer.sendall(b"question")
                return receive_exactly(peer, 8), peer.version()

        assert await asyncio.to_thread(converse) == (b"question", version.name.replace("_", "."))
        await protocol.until("connection_lost")
        assert protocol.names == ["connection_made", "data_received", "eof_received", "connection_lost"]


def told(transport: asyncio.BaseTransport) -> dict[str, Any]:
    """What both ends of a connection can be asked, in a form that compares."""
    info = transport.get_extra_info
    return {
        "sslcontext": type(info("sslcontext")),
        "ssl_object": type(info("ssl_object")),
        "version": info("ssl_object").version(),
        "cipher": info("cipher"),
        "compression": info("compression"),
        "peercert": info("peercert") and dict(info("peercert"))["subjectAltName"],
        "socket": isinstance(info("socket"), trsock.TransportSocket),
        "addresses": (info("peername")[0], info("sockname")[0]),
        "nothing": info("nothing", "default"),
    }


def test_extra_info(same_as_asyncio, version: ssl.TLSVersion) -> None:
    def scenario(loop_factory):
        async def main() -> Any:
            client, accepted = Recorder(), Recorder()
            async with both_ends(client, accepted, version=version) as (ours, theirs):
                assert ours.get_extra_info("peername") == theirs.get_extra_info("sockname")
                known_by_name = "SSL" in type(ours).__name__
                return told(ours), told(theirs), isinstance(ours, asyncio.Transport), known_by_name

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main())

    ours, theirs, *_ = same_as_asyncio(scenario)
    assert ours["version"] == theirs["version"] == version.name.replace("_", ".")
    assert ours["peercert"] == (("DNS", NAME),)
    assert theirs["peercert"] is None


async def test_the_class_is_named_after_ssl() -> None:
    async with tls_connection(Recorder()) as (transport, _):
        assert "SSL" in type(transport).__name__


@pytest.mark.beyond_asyncio("it forgets them, but some passes after whoever awaits the connection has it")
async def test_the_addresses_are_known_after_the_end() -> None:
    protocol = Recorder()
    async with tls_connection(protocol) as (transport, peer):
        told = [transport.get_extra_info(name) for name in ("peername", "sockname")]
        peer.close()
        await protocol.until("connection_lost")
        assert [transport.get_extra_info(name) for name in ("peername", "sockname")] == told
        assert None not in told
        assert transport.get_extra_info("socket").fileno() == -1
        assert transport.get_extra_info("cipher") is not None
        assert transport.get_extra_info("nothing", "default") == "default"


async def test_a_clients_certificate_is_seen(version: ssl.TLSVersion) -> None:
    accepted = Recorder()
    context = asking_for_client_certificate(server_context(version))
    async with server(lambda: accepted, ssl=context) as (_, address):
        transport, client = await asyncio.get_running_loop().create_connection(
            Recorder, *address, ssl=with_client_certificate(client_context()), server_hostname=NAME
        )
        await accepted.until("connection_made")
        certificate = accepted.transport.get_extra_info("peercert")
        assert certificate["subjectAltName"] == (("email", "client@ringloop.test"),)
        transport.close()
        await client.until("connection_lost")
        await accepted.until("connection_lost")


async def test_the_name_is_sent_and_protocols_are_negotiated() -> None:
    names: list[str] = []
    serving = server_context()
    serving.sni_callback = lambda sslobject, name, context: names.append(name)
    serving.set_alpn_protocols(["h2", "http/1.1"])
    asking = client_context()
    asking.set_alpn_protocols(["http/1.1"])
    client, accepted = Recorder(), Recorder()
    async with server(lambda: accepted, ssl=serving) as (_, address):
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: client, *address, ssl=asking, server_hostname=NAME
        )
        await accepted.until("connection_made")
        ends = (client, accepted)
        assert [end.transport.get_extra_info("ssl_object").selected_alpn_protocol() for end in ends] == [
            "http/1.1", "http/1.1",
        ]  # fmt: skip
        transport.abort()
        for end in ends:
            await end.until("connection_lost")
    assert names == [NAME]


async def test_the_host_is_the_name_by_default() -> None:
    accepted = Recorder()
    async with server(lambda: accepted, "localhost", ssl=server_context(name="localhost")) as (_, address):
        transport, client = await asyncio.get_running_loop().create_connection(
            Recorder, "localhost", address[1], ssl=client_context()
        )
        assert transport.get_extra_info("ssl_object").server_hostname == "localhost"
        transport.close()
        await client.until("connection_lost")
        await accepted.until("connection_lost")


async def test_an_accepted_socket_becomes_a_servers_end() -> None:
    ours, theirs = tcp_pair()
    peer_made = Background(handshake_of_client, theirs)
    protocol = Recorder()
    transport, same = await asyncio.get_running_loop().connect_accepted_socket(
        lambda: protocol, ours, ssl=server_context(), ssl_handshake_timeout=15, ssl_shutdown_timeout=15
    )
    assert same is protocol
    peer = await asyncio.to_thread(peer_made.finish)
    with peer:
        transport.write(b"banner")
        assert await asyncio.to_thread(receive_exactly, peer, 6) == b"banner"
        transport.abort()
        await protocol.until("connection_lost")
        await until_closed(ours)


async def test_streams() -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=server_context())
    async with listening:
        reader, writer = await asyncio.open_connection(
            *listening.sockets[0].getsockname(), ssl=client_context(), server_hostname=NAME
        )
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_start_tls_on_both_ends(kind: type[AnyRecorder], version: ssl.TLSVersion) -> None:
    loop = asyncio.get_running_loop()
    client, accepted = kind(), kind()
    async with server(lambda: accepted) as (_, address):
        plain, _ = await loop.create_connection(lambda: client, *address)
        plain.write(b"STARTTLS")
        await accepted.until_received(8)
        ours, theirs = await asyncio.gather(
            loop.start_tls(plain, client, client_context(version), server_hostname=NAME),
            loop.start_tls(accepted.transport, accepted, server_context(), server_side=True),
        )
        assert ours is not None
        assert theirs is not None
        assert ours.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
        assert ours.get_protocol() is client
        ours.write(b"secret")
        await accepted.until_received(14)
        theirs.write(b"also")
        await client.until_received(4)
        ours.close()
        await client.until("connection_lost")
        await accepted.until("connection_lost")
        assert client.trace == [("connection_made",), ("data_received", b"also"), *client.trace[2:]]
        assert accepted.received == b"STARTTLSsecret"


async def test_tls_in_tls(kind: type[AnyRecorder]) -> None:
    loop = asyncio.get_running_loop()
    client, accepted = kind(), kind()
    async with server(lambda: accepted, ssl=server_context()) as (_, address):
        outer, _ = await loop.create_connection(
            lambda: client, *address, ssl=client_context(), server_hostname=NAME
        )
        await accepted.until("connection_made")
        inner, inner_accepted = await asyncio.gather(
            loop.start_tls(outer, client, client_context(), server_hostname=NAME),
            loop.start_tls(accepted.transport, accepted, server_context(), server_side=True),
        )
        assert inner is not None
        assert inner_accepted is not None
        payload = bytes(range(256)) * 1024
        inner.write(payload)
        await accepted.until_received(len(payload))
        inner_accepted.write(payload)
        await client.until_received(len(payload))
        assert client.received == accepted.received == payload
        inner.close()
        await client.until("connection_lost")
        await accepted.until("connection_lost")
        assert client.error is None
        assert accepted.error is None


async def test_over_a_unix_socket(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    path = str(tmp_path / "socket")
    async with await asyncio.start_unix_server(answer, path, ssl=server_context(version)):
        reader, writer = await asyncio.open_unix_connection(path, ssl=client_context(), server_hostname=NAME)
        assert writer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
        writer.write(b"question\n")
        assert await reader.read() == b"question\n"
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_unix_connection(path, ssl=client_context(), server_hostname="other.example")


async def test_an_object_of_the_users_is_asked(version: ssl.TLSVersion) -> None:
    asked = set()

    class Watched(ssl.SSLObject):
        def __getattribute__(self, name: str) -> Any:
            asked.add(name)
            return super().__getattribute__(name)

    context = client_context(version)
    context.sslobject_class = Watched
    protocol = Recorder()
    async with server(lambda: Recorder(), ssl=server_context(version)) as (_, address):
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: protocol, *address, ssl=context, server_hostname=NAME
        )
        assert type(transport.get_extra_info("ssl_object")) is Watched
        transport.write(b"data")
        transport.close()
        await protocol.until("connection_lost")
    assert asked >= {"do_handshake", "getpeercert", "cipher", "compression", "write", "unwrap"}
