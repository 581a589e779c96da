"""The cloud of `cuvee demo-scale`: it does what its webhook is told, and what clouds do."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from gateway.config.load import load
from loadtest.day.cloud import LocalCloud
from loadtest.day.instances import EngineProcess

CONFIGS = Path(__file__).parents[3] / "configs"


@asynccontextmanager
async def clouds(folder, startup_s=0.01):
    """A cloud of the demo's pools, and how to wish."""
    pools = {pool.name: replace(pool, max_backends=9) for pool in load(CONFIGS / "demo.yaml").pools}
    loop = asyncio.get_running_loop()
    async with (
        EngineProcess() as engines,
        LocalCloud(
            engines, pools, startup_s=startup_s, folder=folder,
            rng=np.random.default_rng(0), now=loop.time,
        ) as cloud,
        aiohttp.ClientSession() as session,
    ):  # fmt: skip

        async def wish(backends, leaving=()):
            body = {"pool": "a10g", "backends": backends, "leaving": list(leaving)}
            async with session.post(f"{cloud.url}/a10g", json=body) as reply:
                return reply.status, await reply.json()

        yield cloud, wish


def found(cloud):
    """The URLs in the file."""
    return json.loads(cloud.file.read_text())["a10g"]


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.01)


@pytest.mark.long
async def test_machines_come_and_go_as_they_are_wished(tmp_path):
    """The same wish twice starts nothing more; who is named goes first; a machine that goes is no
    longer in the file, and ends when it has nothing left."""
    async with clouds(tmp_path) as (cloud, wish):
        assert found(cloud) == []
        assert (await wish(2))[0] == (await wish(2))[0] == 200
        await until(lambda: len(found(cloud)) == 2)
        first, second = found(cloud)
        async with aiohttp.ClientSession() as session:
            assert (await session.get(f"{first}/health")).status == 200
        await wish(1, leaving=[first])
        assert found(cloud) == [second]
        await until(lambda: cloud.machines[0].until_s or cloud.machines[1].until_s)

        assert len(cloud.machines) == 2
        assert cloud.serving()["a10g"] == 1


async def test_an_empty_stock_refuses_and_changes_nothing(tmp_path):
    """As an API of a cloud does that has no machine of a type; fewer can be had always."""
    async with clouds(tmp_path) as (cloud, wish):
        await cloud.begin({"a10g": 1})
        cloud.out_of_stock.add("A10G")
        status, body = await wish(2)

        assert (status, body) == (422, {"error": "no A10G can be had"})
        assert (cloud.refused, len(cloud.machines)) == (1, 1)
        assert (await wish(0))[0] == 200


async def test_a_machine_that_is_taken_away_ends_after_the_notice(tmp_path):
    """Until then it serves and stands in the file: who was told must stop by itself."""
    async with clouds(tmp_path) as (cloud, _):
        await cloud.begin({"a10g": 1})
        url = await cloud.lose("a10g", 0.05)
        assert found(cloud) == [url]
        await until(lambda: not found(cloud))

        assert cloud.machines[0].until_s is not None
        assert await cloud.lose("a10g", 0.05) is None
