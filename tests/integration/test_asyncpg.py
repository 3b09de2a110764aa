"""asyncpg against PostgreSQL: over TCP with a password, over TLS, over the Unix socket."""

import asyncio
import contextlib
import datetime
import decimal
import hashlib
import itertools
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from integration.load import Rounds
from integration.servers import PASSWORD, Server
from network.tls import client_context

pytestmark = pytest.mark.integration

WAYS = ("tcp", "tls", "unix")
CONNECTIONS = 20

_schema_numbers = itertools.count()


def arguments(server: Server, way: str = "tcp") -> dict[str, Any]:
    """What asyncpg.connect needs to reach the server on this way."""
    address: dict[str, Any] = {"host": "localhost", "port": server.port, "user": "postgres"}
    if way == "unix":
        return {**address, "host": str(server.socket.parent), "database": "postgres"}
    return {
        **address,
        "password": PASSWORD,
        "database": "postgres",
        "ssl": client_context() if way == "tls" else False,
    }


@contextlib.asynccontextmanager
async def connected(server: Server, way: str = "tcp", **others: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**arguments(server, way), **others)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def own_schema(server: Server) -> AsyncIterator[dict[str, str]]:
    """Server settings of a schema that lives as long as the block."""
    name = f"schema_{next(_schema_numbers)}"
    async with connected(server, "unix") as connection:
        await connection.execute(f"create schema {name}")
        try:
            yield {"search_path": name}
        finally:
            await connection.execute(f"drop schema {name} cascade")


@contextlib.asynccontextmanager
async def connected_to_own_schema(server: Server, way: str) -> AsyncIterator[asyncpg.Connection]:
    async with own_schema(server) as schema, connected(server, way, server_settings=schema) as connection:
        yield connection


async def until_waiting_for_a_lock(watcher: asyncpg.Connection, pid: int) -> None:
    """Returns when the backend `pid` is blocked: nothing announces that, but the server knows."""
    while not await watcher.fetchval("select count(*) from pg_locks where pid = $1 and not granted", pid):
        await asyncio.sleep(0)


@pytest.mark.parametrize("way", WAYS)
async def test_values_of_many_types_come_back(postgresql: Server, way: str) -> None:
    values = {
        "bigint": -(2**63),
        "double precision": 0.1,
        "numeric": decimal.Decimal("12345678901234567890.0987654321"),
        "text": "läßt grüßen \N{SNOWMAN}" * 1000,
        "bytea": random.Random(1).randbytes(300_000),
        "uuid": uuid.UUID(int=2**127 + 1),
        "timestamptz": datetime.datetime(2024, 2, 29, 23, 59, 59, 999999, datetime.UTC),
        "interval": datetime.timedelta(days=3, microseconds=7),
        "int[]": [list(range(100)), list(range(100, 200))],
        "jsonb": '{"a": [1, 2, 3]}',
        "boolean": None,
    }
    columns = ", ".join(f"${number}::{name}" for number, name in enumerate(values, 1))
    async with connected(postgresql, way) as connection:
        for _ in range(20):
            row = await connection.fetchrow(f"select {columns}", *values.values())
            assert list(row) == list(values.values())
        uses_tls = await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        assert uses_tls == (way == "tls")


@pytest.mark.parametrize("way", WAYS)
async def test_prepared_statements_cursors_and_transactions(postgresql: Server, way: str) -> None:
    async with connected_to_own_schema(postgresql, way) as connection:
        await connection.execute("create table squares (n int primary key, square int not null)")
        await connection.executemany("insert into squares values ($1, $2)", [(n, n * n) for n in range(3000)])
        statement = await connection.prepare("select square from squares where n = $1")
        assert [await statement.fetchval(n) for n in range(500)] == [n * n for n in range(500)]

        async with connection.transaction():
            cursor = connection.cursor("select n, square from squares order by n", prefetch=70)
            assert [tuple(row) async for row in cursor] == [(n, n * n) for n in range(3000)]

        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("update squares set square = 0")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("insert into squares values (7, 7)")
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await connection.execute("select 1")
        await transaction.rollback()
        assert await connection.fetchval("select sum(square) from squares") == sum(n * n for n in range(3000))

        async with connection.transaction():
            await connection.execute("delete from squares where n >= 10")
            with contextlib.suppress(ZeroDivisionError):
                async with connection.transaction():  # a savepoint
                    await connection.execute("delete from squares")
                    raise ZeroDivisionError
        assert await connection.fetchval("select count(*) from squares") == 10


async def transfer(pool: asyncpg.Pool, seed: int) -> int:
    """Moves a sum between two accounts, and takes it back in one of four cases; what account 0 has gained."""
    rng = random.Random(seed)
    giver, taker = rng.sample(range(10), 2)
    amount = rng.randrange(1, 100)
    is_kept = seed % 4 != 0
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        # Always in the same order, so that no two of them wait for each other.
        query = "select id, balance from accounts where id = any($1::int[]) order by id for update"
        rows = await connection.fetch(query, [giver, taker])
        balances = {row["id"]: row["balance"] for row in rows}
        update = "update accounts set balance = $2 where id = $1"
        await connection.execute(update, giver, balances[giver] - amount)
        await connection.execute(update, taker, balances[taker] + amount)
        await (transaction.commit() if is_kept else transaction.rollback())
    return amount * ((taker == 0) - (giver == 0)) if is_kept else 0


async def transfer_at_once(server: Server, way: str, schema: dict[str, str], seed: int) -> None:
    """200 transfers by tasks of their own, through a pool; no read-modify-write may be lost."""
    async with asyncpg.create_pool(
        **arguments(server, way), min_size=CONNECTIONS, max_size=CONNECTIONS, server_settings=schema
    ) as pool:
        before = await pool.fetchval("select balance from accounts where id = 0")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(transfer(pool, seed + number)) for number in range(200)]
        assert await pool.fetchval("select sum(balance) from accounts") == 0
        gained = sum(task.result() for task in tasks)
        assert await pool.fetchval("select balance from accounts where id = 0") == before + gained
        assert pool.get_size() == CONNECTIONS


async def make_accounts(server: Server, schema: dict[str, str]) -> None:
    async with connected(server, "unix", server_settings=schema) as connection:
        await connection.execute(
            "create table accounts (id int primary key, balance bigint not null);"
            "insert into accounts select n, 0 from generate_series(0, 9) n"
        )


@pytest.mark.parametrize("way", WAYS)
async def test_a_pool_serves_concurrent_transactions(postgresql: Server, way: str) -> None:
    async with own_schema(postgresql) as schema:
        await make_accounts(postgresql, schema)
        await transfer_at_once(postgresql, way, schema, seed=0)


async def copy_both_ways(connection: asyncpg.Connection, mebibytes: int) -> None:
    """COPY of text into a table in pieces that cut lines, then out of it, by digests."""
    line = "".join(chr(ord("a") + n % 26) for n in range(1000))
    lines_per_mebibyte = 1048
    into, back = hashlib.sha256(), hashlib.sha256()

    async def source() -> AsyncIterator[bytes]:
        for mebibyte in range(mebibytes):
            block = "".join(
                f"{mebibyte * lines_per_mebibyte + n:07}\t{line}\n" for n in range(lines_per_mebibyte)
            ).encode()
            into.update(block)
            for start in range(0, len(block), 100_003):
                yield block[start : start + 100_003]

    async def sink(block: bytes) -> None:
        back.update(block)

    await connection.execute("create unlogged table lines (n int, line text)")
    count = mebibytes * lines_per_mebibyte
    assert await connection.copy_to_table("lines", source=source()) == f"COPY {count}"
    query = "select lpad(n::text, 7, '0'), line from lines order by n"
    assert await connection.copy_from_query(query, output=sink) == f"COPY {count}"
    assert back.digest() == into.digest()
    await connection.execute("drop table lines")


@pytest.mark.parametrize("way", WAYS)
async def test_copies_tens_of_megabytes_in_and_out(postgresql: Server, way: str) -> None:
    async with connected_to_own_schema(postgresql, way) as connection:
        await copy_both_ways(connection, mebibytes=40)
        await connection.execute("create unlogged table records (n int, payload bytea)")
        records = [(n, bytes([n % 251]) * (n % 500)) for n in range(20_000)]
        await connection.copy_records_to_table("records", records=records)
        rows = await connection.fetch("select n, payload from records order by n")
        assert [tuple(row) for row in rows] == records


@pytest.mark.parametrize("way", WAYS)
async def test_notifications_arrive_in_order(postgresql: Server, way: str) -> None:
    heard: list[tuple[int, str, str]] = []
    is_complete = asyncio.Event()

    def listener(_: object, pid: int, channel: str, payload: str) -> None:
        heard.append((pid, channel, payload))
        if len(heard) == 500:
            is_complete.set()

    async with connected(postgresql, way) as listening, connected(postgresql, way) as speaking:
        await listening.add_listener("news", listener)
        for number in range(499):
            await speaking.execute("select pg_notify('news', $1)", str(number))
        await speaking.execute("select pg_notify('news', $1)", "x" * 7999)
        await is_complete.wait()
        pid = speaking.get_server_pid()
        assert heard == [*((pid, "news", str(n)) for n in range(499)), (pid, "news", "x" * 7999)]
        await listening.remove_listener("news", listener)
        await speaking.execute("notify news")
        assert await listening.fetchval("select 1") == 1
        assert len(heard) == 500


@pytest.mark.parametrize("way", WAYS)
async def test_a_query_that_times_out_leaves_a_usable_connection(postgresql: Server, way: str) -> None:
    async with connected(postgresql) as holder, connected(postgresql, way) as connection:
        await holder.execute("select pg_advisory_lock(1)")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await connection.execute("select pg_advisory_lock(1)", timeout=0.05)
            assert await connection.fetchval("select 42") == 42
        waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        assert await holder.fetchval(waits) == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_query_leaves_a_usable_connection(postgresql: Server, way: str) -> None:
    async with connected(postgresql) as holder, connected(postgresql, way) as connection:
        await holder.execute("select pg_advisory_lock(2)")
        for _ in range(3):
            task = asyncio.create_task(connection.execute("select pg_advisory_lock(2)"))
            await until_waiting_for_a_lock(holder, connection.get_server_pid())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await connection.fetchval("select 42") == 42
        await holder.execute("select pg_advisory_unlock(2)")
        await connection.execute("select pg_advisory_lock(2)")
        assert await holder.fetchval("select pg_try_advisory_lock(2)") is False


@pytest.mark.parametrize("way", WAYS)
async def test_a_copy_that_is_cancelled_leaves_nothing(postgresql: Server, way: str) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"1\n" * 10_000
        started.set()
        await asyncio.get_running_loop().create_future()

    started = asyncio.Event()
    async with connected_to_own_schema(postgresql, way) as connection:
        await connection.execute("create table numbers (n int)")
        task = asyncio.create_task(connection.copy_to_table("numbers", source=source()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await connection.fetchval("select count(*) from numbers") == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_terminated_backend_is_an_error_of_its_connection_only(postgresql: Server, way: str) -> None:
    terminated = asyncio.Event()
    async with connected(postgresql) as holder:
        await holder.execute("select pg_advisory_lock(3)")
        connection = await asyncpg.connect(**arguments(postgresql, way))
        connection.add_termination_listener(lambda _: terminated.set())
        task = asyncio.create_task(connection.execute("select pg_advisory_lock(3)"))
        await until_waiting_for_a_lock(holder, connection.get_server_pid())
        assert await holder.fetchval("select pg_terminate_backend($1)", connection.get_server_pid())
        with pytest.raises(asyncpg.ConnectionDoesNotExistError) as raised:
            await task
        assert isinstance(raised.value.__cause__, asyncpg.AdminShutdownError)
        await terminated.wait()
        assert connection.is_closed()
        with pytest.raises(asyncpg.InterfaceError, match="connection is closed"):
            await connection.execute("select 1")
        assert await holder.fetchval("select 1") == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_pool_replaces_terminated_connections(postgresql: Server, way: str) -> None:
    async with (
        connected(postgresql) as other,
        asyncpg.create_pool(**arguments(postgresql, way), min_size=3, max_size=3) as pool,
    ):
        async with pool.acquire() as first:
            pid = first.get_server_pid()
            ended = asyncio.Event()
            first.add_termination_listener(lambda _: ended.set())
            await other.execute("select pg_terminate_backend($1)", pid)
            await ended.wait()
        answers = await asyncio.gather(*(pool.fetchval("select pg_backend_pid()") for _ in range(30)))
        assert pid not in answers
        assert len(set(answers)) <= 3


async def test_what_is_refused_is_told(postgresql: Server) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(**{**arguments(postgresql), "password": "wrong"})
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(**{**arguments(postgresql, "unix"), "database": "no such"})
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(**{**arguments(postgresql), "host": "127.0.0.2"})


async def test_load(postgresql: Server, rounds: Rounds) -> None:
    async with own_schema(postgresql) as schema:
        await make_accounts(postgresql, schema)

        async def one_round(number: int) -> None:
            await transfer_at_once(postgresql, WAYS[number % 3], schema, seed=number)
            async with connected(postgresql, WAYS[number % 3], server_settings=schema) as connection:
                await copy_both_ways(connection, mebibytes=5)

        await rounds.run(one_round)
