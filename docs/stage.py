"""What the pictures and the costs of the page are made with: a gateway, engines and traffic.

A gateway of two workers in front of emulated engines of three GPU types, and traffic of three
callers in two SLO classes.
"""

import asyncio
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine
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
    Habit("sk-shop", 8.0, 250, 160),
    Habit("sk-code", 5.5, 1700, 60),
    Habit("sk-nightly", 2.0, 1200, 350, "batch"),
)
CROWD = Habit("sk-crowd", 0.0, 900, 120)
CROWD_S, CROWD_SIZE = (
    110.0,
    120,
)  # that many requests at once, at this interval: not all are in time
WHY = "a new kernel"  # of the drain of one backend


def configuration(folder: Path, workers: int = 2) -> Path:
    """The demo's, with a second class, several workers and fewer backends."""
    raw = yaml.safe_load((shipped.folder() / "demo.yaml").read_text())
    raw["models"][MODEL]["classes"] = {"batch": {"ttft_s": 20, "tpot_s": 0.3, "attainment": 0.95}}
    raw["planner"] |= {"patience": 3, "min_requests": 100}
    raw["planner"]["workload"] = str(shipped.folder() / raw["planner"]["workload"])
    for name, number in (("a10g", 4), ("a100", 2), ("h100", 1)):
        raw["pools"][name]["backends"] = raw["pools"][name]["backends"][:number]
    raw["gateway"] |= {"workers": workers, "warmup_s": 2}
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until SIGTERM: the processes of the stage end with it."""

    async def ended() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with suppress(asyncio.CancelledError):
            await main

    asyncio.run(ended())


@asynccontextmanager
async def staged(
    folder: Path, *, crowds: bool = False, workers: int = 2
) -> AsyncIterator[LocalFleet]:
    """All of it, while this is open. crowds: with what is not always so, too."""
    log = Path(tempfile.gettempdir()) / "cuvee-stage.log"
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        LocalFleet(configuration(folder, workers), log=log) as fleet,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        chance = random.Random(1)
        sending = [asyncio.create_task(_send(session, fleet.url, one, chance)) for one in HABITS]
        if crowds:
            sending.append(asyncio.create_task(_crowd(session, fleet.url, chance)))
            drain = {"backend": "a10g-3", "why": WHY}
            await session.post(f"{fleet.admin_url}/cuvee/drain", json=drain)
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
        task = asyncio.create_task(_ask(session, url, habit, chance))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _crowd(session: aiohttp.ClientSession, url: str, chance: random.Random) -> None:
    while True:
        await asyncio.sleep(CROWD_S)
        asking = [_ask(session, url, CROWD, chance) for _ in range(CROWD_SIZE)]
        await asyncio.gather(*asking, _ask(session, url, CROWD, chance, "no-such-model"))


async def _ask(
    session: aiohttp.ClientSession,
    url: str,
    habit: Habit,
    chance: random.Random,
    model: str = MODEL,
) -> None:
    """Send one request and read its answer."""
    size = int(min(6000, 1 + chance.lognormvariate(0, 0.8) * habit.inputs))
    tokens = int(min(1000, 1 + chance.lognormvariate(0, 0.7) * habit.outputs))
    body: dict[str, Any] = {
        "model": model,
        "stream": chance.random() < 0.9,
        "messages": [{"role": "user", "content": "word " * size}],
        "vllm_xargs": {"output_tokens": tokens},
    }
    headers = {"authorization": f"Bearer {habit.key}", "x-cuvee-slo-class": habit.slo_class}
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
            await reply.read()
