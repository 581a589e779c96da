"""What the pictures and the costs of the page are made with: a gateway, engines and traffic.

A gateway of two workers in front of emulated engines of three GPU types, and traffic of three
callers in two SLO classes.
"""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml

from loadtest.demo.fleet import LocalFleet
from planner import shipped

MODEL = "llama-3-8b"


class Habit(NamedTuple):
    """What one caller sends: requests/s, tokens of a prompt and of an answer in the middle."""

    key: str
    rate: float
    inputs: int
    outputs: int
    slo_class: str = "default"


HABITS = (
    Habit("sk-shop", 6.0, 500, 180),
    Habit("sk-code", 5.0, 1800, 60),
    Habit("sk-nightly", 2.0, 1200, 350, "batch"),
)


def configuration(folder: Path) -> Path:
    """The demo's, with a second class, two workers and fewer backends."""
    raw = yaml.safe_load((shipped.folder() / "demo.yaml").read_text())
    raw["models"][MODEL]["classes"] = {"batch": {"ttft_s": 20, "tpot_s": 0.3, "attainment": 0.95}}
    raw["planner"] |= {"patience": 3, "min_requests": 100}
    raw["planner"]["workload"] = str(shipped.folder() / raw["planner"]["workload"])
    for name, number in (("a10g", 4), ("a100", 2), ("h100", 1)):
        raw["pools"][name]["backends"] = raw["pools"][name]["backends"][:number]
    raw["gateway"] |= {"workers": 2, "warmup_s": 2}
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


@asynccontextmanager
async def staged(folder: Path, habits: tuple[Habit, ...] = HABITS) -> AsyncIterator[LocalFleet]:
    """All of it, while this is open."""
    log = Path(tempfile.gettempdir()) / "cuvee-stage.log"
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        LocalFleet(configuration(folder), log=log) as fleet,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        chance = random.Random(1)
        sending = [asyncio.create_task(_send(session, fleet.url, one, chance)) for one in habits]
        try:
            yield fleet
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)


async def _send(
    session: aiohttp.ClientSession, url: str, habit: Habit, chance: random.Random
) -> None:
    """Send the requests of one caller, for ever."""
    tasks: set[asyncio.Task[None]] = set()
    while True:
        await asyncio.sleep(chance.expovariate(habit.rate))
        size = int(min(6000, 1 + chance.lognormvariate(0, 0.8) * habit.inputs))
        tokens = int(min(1000, 1 + chance.lognormvariate(0, 0.7) * habit.outputs))
        body = {
            "model": MODEL,
            "stream": chance.random() < 0.9,
            "messages": [{"role": "user", "content": "word " * size}],
            "vllm_xargs": {"output_tokens": tokens},
        }
        task = asyncio.create_task(_ask(session, url, habit, body))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _ask(
    session: aiohttp.ClientSession, url: str, habit: Habit, body: dict[str, Any]
) -> None:
    headers = {"authorization": f"Bearer {habit.key}", "x-cuvee-slo-class": habit.slo_class}
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
            await reply.read()
