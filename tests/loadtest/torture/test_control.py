"""The whole gateway beside engines that are slower than their profiles, in virtual time."""

import asyncio
import logging
from random import Random
from typing import Any

import pytest

from loadtest.torture.client import TorturingClient
from loadtest.torture.control import HOST, PORT, VirtualGateway
from loadtest.torture.engine import TorturedEngine
from loadtest.torture.ledger import EVENTS, Ask, Ledger
from loadtest.torture.network import Network
from loadtest.torture.setting import FIRST, SIZES, Setting, profile_of
from loadtest.torture.virtual_loop import VirtualLoop

FIVE_MINUTES_S = 300.0
LOAD = 0.5


async def send(loop, ledger, setting, random, seconds):
    """Steady traffic of the usual sizes, streaming and not."""
    rate = LOAD * sum(len(hosts) * setting.capacity(pool) for pool, hosts in setting.used.items())
    number, end_s = 0, loop.time() + seconds
    sizes, shares = zip(*SIZES, strict=True)
    while loop.time() < end_s:
        await asyncio.sleep(random.expovariate(rate))
        number += 1
        inputs, outputs = random.choices(sizes, shares)[0]
        ask = Ask(
            f"r{number}", model=FIRST, slo_class="default", caller="ann",
            input_tokens=round(inputs * random.uniform(0.7, 1.3)),
            output_tokens=round(outputs * random.uniform(0.7, 1.3)),
            stream=random.random() < 0.8, leaves_s=float("inf"), poison=False, slow=False,
        )  # fmt: skip
        _, client = await loop.create_connection(
            lambda: TorturingClient(ledger, lambda idle: idle.leave()), HOST, PORT
        )
        client.send(ask)


def observed(tmp_path, slowdowns, seed):
    """What a gateway found after five minutes, its pools then, and its plan before and after.

    slowdowns: of each engine of the pool `a10g`; other engines are as their profile says.
    """
    random = Random(seed)
    network, ledger = Network(seed), Ledger(EVENTS)
    loop = VirtualLoop(network)
    setting = Setting(Random(seed), tmp_path)
    found: dict[str, Any] = {}

    async def run():
        engines = {
            host: TorturedEngine(
                host, profile_of(pool), network, draw=random.random, on_attempt=lambda *_: None
            )
            for pool, hosts in setting.hosts.items()
            for host in hosts
        }
        for host, slowdown in zip(setting.hosts["a10g"], slowdowns, strict=False):
            engines[host].change(slowdown=slowdown)
        async with VirtualGateway(setting.loaded, ledger) as gateway:
            found["before"], found["workers"] = gateway.plan, len(gateway.workers())
            await send(loop, ledger, setting, random, FIVE_MINUTES_S)
            found["paces"] = {one.pool: one for one in gateway.paces}
            found["pools"] = {pool.name: pool for pool in gateway.pools}
            found["after"] = gateway.plan
            await asyncio.sleep(60.0)

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    assert not ledger.broken
    return found


@pytest.mark.long
@pytest.mark.parametrize(("seed", "workers"), [(5, 1), (16, 3)])
def test_a_slow_pool_is_found_in_five_minutes(tmp_path, caplog, seed, workers):
    """Engines a fifth slower: their pool is found at 1.2, with one worker and with several. It is
    said once, other pools are left alone, and a plan that counts with it is in force."""
    with caplog.at_level(logging.WARNING, "cuvee.pace"):
        found = observed(tmp_path, (1.2,) * 4, seed)
    slow, paces = found["pools"]["a10g"], found["paces"]
    own, real = (
        profile.times.decode_s(4.0, 800.0) for profile in (profile_of("a10g"), slow.profile)
    )

    assert found["workers"] == workers
    assert paces["a10g"].pace == pytest.approx(1.2, rel=0.05)
    assert real / own == pytest.approx(1.2, rel=0.05)
    assert all(
        one.pace == pytest.approx(1.0, abs=0.05)
        for name, one in paces.items()
        if name != "a10g" and one.pace is not None
    )
    assert [line[:18] for line in caplog.messages if "profile" in line] == ["pool a10g takes 1."]
    assert found["after"] is not found["before"]
