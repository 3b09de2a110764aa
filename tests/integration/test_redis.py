"""redis-py's asyncio client against Redis, over TCP and over the Unix socket."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator

import pytest
from redis import asyncio as aredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError, WatchError

from integration.load import Rounds
from integration.servers import Server

pytestmark = pytest.mark.integration

WAYS = ("tcp", "unix")
TASKS = 100


@contextlib.asynccontextmanager
async def client_of(server: Server, way: str, connections: int = 120) -> AsyncIterator[aredis.Redis]:
    """A client of the emptied server, whose pool waits when all its connections are in use."""
    kind, address = (
        (aredis.UnixDomainSocketConnection, {"path": str(server.socket)})
        if way == "unix"
        else (aredis.Connection, {"host": "127.0.0.1", "port": server.port})
    )
    pool = aredis.BlockingConnectionPool(
        connection_class=kind, max_connections=connections, timeout=20, **address
    )
    client = aredis.Redis.from_pool(pool)
    try:
        await client.flushall()
        yield client
    finally:
        await client.aclose()


async def until_blocked(client: aredis.Redis, count: int = 1) -> None:
    """Returns when so many clients wait in a blocking call: nothing announces that, but the server knows."""
    while (await client.info("clients"))["blocked_clients"] != count:
        await asyncio.sleep(0)


@pytest.mark.parametrize("way", WAYS)
async def test_pipelines_answer_in_order(redis: Server, way: str) -> None:
    async with client_of(redis, way) as client:
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(5_000):
                pipeline.set(f"key:{number}", number)
                pipeline.incrby(f"key:{number}", 5)
            answers = await pipeline.execute()
        assert answers == [answer for number in range(5_000) for answer in (True, number + 5)]
        keys = [f"key:{number}" for number in range(5_000)]
        assert await client.mget(keys) == [b"%d" % (number + 5) for number in range(5_000)]
        assert {key async for key in client.scan_iter(count=500)} == {key.encode() for key in keys}


@pytest.mark.parametrize("way", WAYS)
async def test_transactions_see_what_others_change(redis: Server, way: str) -> None:
    async with client_of(redis, way) as client, client.pipeline(transaction=True) as pipeline:
        await client.set("watched", 1)
        await pipeline.watch("watched")
        assert await pipeline.get("watched") == b"1"
        await client.set("watched", 2)
        pipeline.multi()
        pipeline.set("watched", 3)
        with pytest.raises(WatchError):
            await pipeline.execute()
        assert await client.get("watched") == b"2"
        pipeline.set("text", "not a number")
        pipeline.incr("text")
        pipeline.set("after", 1)
        with pytest.raises(ResponseError, match="not an integer"):
            await pipeline.execute()
        assert await client.get("after") == b"1"


@pytest.mark.parametrize("way", WAYS)
async def test_values_of_megabytes_come_back(redis: Server, way: str) -> None:
    async with client_of(redis, way) as client:
        values = [random.Random(size).randbytes(size) for size in (1, 65_536, 1_000_003, 9_000_000)]
        for value in values:
            assert await client.set("value", value)
            assert await client.strlen("value") == len(value)
            assert await client.get("value") == value
            assert await client.getrange("value", -7, -1) == value[-7:]
        await asyncio.gather(*(client.set(f"value:{n}", values[2] + b"%d" % n) for n in range(8)))
        answers = await asyncio.gather(*(client.get(f"value:{n}") for n in range(8)))
        assert answers == [values[2] + b"%d" % n for n in range(8)]


async def take_all(subscriber: aredis.client.PubSub, count: int) -> list[tuple[str, bytes, bytes]]:
    """The next `count` messages: kind, channel and content."""
    taken = []
    async for message in subscriber.listen():
        taken.append((message["type"], message["channel"], message["data"]))
        if len(taken) == count:
            break
    return taken


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_published_reaches_every_subscriber(redis: Server, way: str) -> None:
    async with client_of(redis, way) as client, contextlib.AsyncExitStack() as stack:
        subscribers = []
        for _ in range(10):
            subscriber = await stack.enter_async_context(client.pubsub(ignore_subscribe_messages=False))
            await subscriber.subscribe("news")
            await subscriber.psubscribe("weather.*")
            assert [kind for kind, _, _ in await take_all(subscriber, 2)] == ["subscribe", "psubscribe"]
            subscribers.append(subscriber)
        listeners = [asyncio.create_task(take_all(subscriber, 600)) for subscriber in subscribers]
        for number in range(300):
            assert await client.publish("news", b"%d" % number * 20) == 10
            assert await client.publish(f"weather.{number}", number) == 10
        expected = []
        for number in range(300):
            expected += [
                ("message", b"news", b"%d" % number * 20),
                ("pmessage", b"weather.%d" % number, b"%d" % number),
            ]
        assert await asyncio.gather(*listeners) == [expected] * 10
        await subscribers[0].unsubscribe("news")
        assert (await take_all(subscribers[0], 1))[0][0] == "unsubscribe"
        assert await client.publish("news", "to the others") == 9


@pytest.mark.parametrize("way", WAYS)
async def test_a_blocking_pop_gets_what_is_pushed(redis: Server, way: str) -> None:
    async with client_of(redis, way) as client:
        pops = [asyncio.create_task(client.blpop(["queue"], timeout=0)) for _ in range(20)]
        await until_blocked(client, 20)
        await client.rpush("queue", *range(20))
        popped = await asyncio.gather(*pops)
        assert sorted(int(value) for _, value in popped) == list(range(20))
        assert {key for key, _ in popped} == {b"queue"}


@pytest.mark.parametrize("way", WAYS)
async def test_a_blocking_pop_ends_when_its_time_is_up(redis: Server, way: str) -> None:
    async with client_of(redis, way) as client:
        assert await client.blpop(["queue"], timeout=0.05) is None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.blpop(["queue"], timeout=0), 0.05)
        await until_blocked(client, 0)
        await client.rpush("queue", "kept")
        assert await client.blpop(["queue"], timeout=0) == (b"queue", b"kept")


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_blocking_pop_takes_nothing(redis: Server, way: str) -> None:
    async with client_of(redis, way, connections=3) as client:
        for number in range(10):
            pop = asyncio.create_task(client.blpop(["queue"], timeout=0))
            await until_blocked(client)
            pop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pop
            await until_blocked(client, 0)
            await client.rpush("queue", number)
            assert await client.lpop("queue") == b"%d" % number


async def work(client: aredis.Redis, name: int) -> None:
    """Commands of every shape by one of many tasks, whose answers only fit its own questions."""
    rng = random.Random(name)
    key = f"task:{name}"
    for step in range(6):
        value = rng.randbytes(rng.choice((1, 100, 5000, 100_000)))
        assert await client.hset(key, mapping={"value": value, "step": step}) in (0, 2)
        assert await client.hgetall(key) == {b"value": value, b"step": b"%d" % step}
        await client.incrby("total", step)
        await client.rpush(f"{key}:list", hashlib.sha256(value).digest())
    assert await client.llen(f"{key}:list") == 6
    assert await client.delete(key, f"{key}:list") == 2


async def work_at_once(server: Server, way: str, connections: int) -> None:
    async with client_of(server, way, connections) as client:
        await asyncio.gather(*(work(client, name) for name in range(TASKS)))
        assert await client.get("total") == b"%d" % (TASKS * sum(range(6)))
        assert await client.dbsize() == 1


@pytest.mark.parametrize("connections", [7, TASKS])
@pytest.mark.parametrize("way", WAYS)
async def test_a_pool_serves_100_tasks(redis: Server, way: str, connections: int) -> None:
    await work_at_once(redis, way, connections)


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_is_killed_hears_it_and_comes_back(redis: Server, way: str) -> None:
    async with client_of(redis, way) as client, client.client() as alone:
        number = await alone.client_id()
        blocked = asyncio.create_task(alone.blpop(["queue"], timeout=0))
        await until_blocked(client)
        assert await client.client_kill_filter(_id=number) == 1
        with pytest.raises(RedisConnectionError):
            await blocked
        assert await alone.ping()
        assert await alone.client_id() != number
        await client.rpush("queue", "kept")
        assert await alone.blpop(["queue"], timeout=0) == (b"queue", b"kept")


async def test_where_nobody_listens(redis: Server) -> None:
    client = aredis.Redis(unix_socket_path=f"{redis.socket}.not", retry=None)
    with pytest.raises(RedisConnectionError):
        await client.ping()
    await client.aclose()


async def test_load(redis: Server, rounds: Rounds) -> None:
    async def one_round(number: int) -> None:
        await work_at_once(redis, WAYS[number % 2], connections=50)

    await rounds.run(one_round)
