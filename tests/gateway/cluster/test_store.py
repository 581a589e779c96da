"""The keys of a cluster, in a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.cluster.store import LEARNED, PLAN, STAMP, Store, StoreError
from gateway.config.cluster_schema import ClusterSection
from tests.redis_server import RedisServer, redis_server

LEASE_S = 0.3
PAGE = Path(__file__).resolve().parents[3] / "docs" / "cluster.md"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as one:
        yield one


def store(server: RedisServer, gateway: str = "g-1", name: str = "cuvee") -> Store:
    section = ClusterSection(redis=server.url, timeout_s=0.2, name=name)
    return Store(section, Path(), gateway)


async def test_one_has_the_lease_and_the_next_a_greater_token(server: RedisServer):
    """Renewed by its holder, refused to others, free when it is released or over."""
    one, two = store(server), store(server, "g-2")
    token, holder = await one.hold(LEASE_S, 0)
    assert holder == "g-1"
    assert await one.hold(LEASE_S, 0) == (token, "g-1")
    assert await two.hold(LEASE_S, 0) == (token, "g-1")
    await one.release()
    second, holder = await two.hold(LEASE_S, 0)
    assert holder == "g-2"
    await one.release()  # not its own any more
    assert await one.hold(LEASE_S, 0) == (second, "g-2")

    async def over() -> tuple[int, str]:
        while True:
            told = await one.hold(LEASE_S, 0)
            if told[1] == "g-1":
                return told
            await asyncio.sleep(0.02)

    async with asyncio.timeout(5):
        third, _ = await over()
    assert token < second < third
    await one.aclose()
    await two.aclose()


async def test_a_late_write_is_refused(server: RedisServer):
    """By a gateway that stood still while another one took the lease."""
    one, two = store(server), store(server, "g-2")
    old, _ = await one.hold(LEASE_S, 0)
    assert await one.publish(old, {PLAN: b"one", STAMP: b"1"})
    await one.release()
    new, _ = await two.hold(LEASE_S, 0)
    assert not await one.publish(old, {PLAN: b"late", STAMP: b"2"})
    assert await two.said(PLAN) == b"one"
    assert await two.publish(new, {PLAN: b"two", STAMP: b"3"})
    assert not await one.publish(old, {LEARNED: b"late"})
    assert await one.said(PLAN) == b"two"
    await one.aclose()
    await two.aclose()


async def test_tokens_grow_over_a_loss_of_everything(server: RedisServer):
    """By Redis' clock; and by what a gateway knows, where that clock went back."""
    one = store(server)
    token, _ = await one.hold(LEASE_S, 0)
    await server.ask("FLUSHALL")
    later, _ = await one.hold(LEASE_S, 0)
    await server.ask("FLUSHALL")
    ahead, _ = await one.hold(LEASE_S, later + 10**9)
    assert token <= later
    assert ahead == later + 10**9 + 1
    await one.aclose()


async def test_what_is_told_is_heard_by_the_others(server: RedisServer):
    """Not by the gateway itself; reports in order, each once, and a bounded number of them."""
    one, two = store(server), store(server, "g-2")
    after = await two.last_report()
    await one.exchange(b"mine")
    assert await two.exchange(b"theirs") == ({"g-1": b"mine"}, None)
    for data in (b"a", b"b"):
        await one.report(data)
    rows = await two.reports(after)
    assert [data for _, data in rows] == [b"a", b"b"]
    assert await two.reports(rows[-1][0]) == []
    for _ in range(1000):
        await one.report(b"x")
    assert len(await two.reports(after)) < 500
    await two.forget(["g-1"])
    assert await two.exchange(b"theirs") == ({}, None)
    await one.aclose()
    await two.aclose()


async def test_clusters_of_other_names_are_apart(server: RedisServer):
    """In one Redis."""
    one, two = store(server), store(server, "g-2", name="other")
    await one.exchange(b"mine")
    _, holder = await one.hold(LEASE_S, 0)
    assert await two.exchange(b"theirs") == ({}, None)
    assert (await two.hold(LEASE_S, 0))[1] == "g-2"
    assert holder == "g-1"
    await one.aclose()
    await two.aclose()


async def test_nothing_waits_for_longer_than_it_may(server: RedisServer):
    """A Redis that stands still, or is gone, is an error in time; after it, answers are right."""
    one = store(server)
    await one.exchange(b"mine")
    server.pause()
    async with asyncio.timeout(5):
        for _ in range(2):
            with pytest.raises(StoreError, match=r"answer in time|Timeout"):
                await one.said(STAMP)
    server.resume()
    assert await one.said(STAMP) is None
    await server.kill()
    with pytest.raises(StoreError):
        await one.exchange(b"mine")
    await one.aclose()


async def test_the_password_of_a_user_comes_from_its_file(server: RedisServer, tmp_path: Path):
    """With only the rights that docs/cluster.md asks for; a wrong one is told without it."""
    (rule,) = (ln for ln in PAGE.read_text().splitlines() if ln.startswith("ACL SETUSER cuvee"))
    assert await server.ask(*rule.replace("PASSWORD", "secret-1").split()) == b"+OK\r\n"
    file = tmp_path / "password"
    file.write_text("wrong-2\n")
    section = ClusterSection(
        redis=server.url.replace("://", "://cuvee@"), password_file=file.name, timeout_s=0.2
    )
    one = Store(section, tmp_path, "g-1")
    with pytest.raises(StoreError) as error:
        await one.exchange(b"mine")
    assert "wrong-2" not in str(error.value)
    file.write_text("secret-1\n")
    token, _ = await one.hold(LEASE_S, 0)
    await one.exchange(b"mine")
    await one.report(b"x")
    await one.reports(await one.last_report())
    assert await one.publish(token, {PLAN: b"p", STAMP: b"s"})
    assert await one.said(PLAN) == b"p"
    await one.forget(["g-2"])
    await one.release()
    await one.aclose()


async def test_no_call_leaves_a_connection(server: RedisServer):
    """Whenever it is given up, before, while or after the store is closed; nor does one that began
    before another failed."""
    for turns in range(24):
        one = store(server)
        calls = [asyncio.create_task(one.said(PLAN)) for _ in range(2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        calls[0].cancel()
        await one.aclose()
        await asyncio.gather(*calls, return_exceptions=True)
    server.pause()
    one = store(server)
    calls = [asyncio.create_task(one.said(PLAN)) for _ in range(2)]
    await asyncio.gather(*calls, return_exceptions=True)
    server.resume()
    assert await one.said(PLAN) is None
    await one.aclose()
    async with asyncio.timeout(5):
        while await connected(server) > 1:  # noqa: ASYNC110 (the server has no event)
            await asyncio.sleep(0.02)


async def connected(server: RedisServer) -> int:
    """How many clients a server has, with the one that asks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(b"CLIENT LIST\r\n")
        size = int((await reader.readline())[1:])
        return len((await reader.readexactly(size)).splitlines())
    finally:
        writer.close()
        await writer.wait_closed()
