"""Measures what the page costs: `python docs/page_cost.py`.

CPU of the process that plans and that answers the admin port, with no page open, with one and with
ten, each for a while under the same traffic; the bytes that a page gets; and how long a worker
takes for an answer that needs no engine, meanwhile. A page here reads events and one view; what a
browser does with them is the browser's.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `docs` is not installed

from docs.stage import run, staged  # noqa: E402
from gateway.admin.assets import sizes  # noqa: E402

CPU = re.compile(r'process_cpu_seconds_total{process="(?:supervisor|gateway)"} (\S+)')
SETTLE_S, FIRST_S = 3.0, 30.0  # the first plans cost more than all pages
PROBE_S = 0.02


async def cpu_s(session: aiohttp.ClientSession, admin: str) -> float:
    async with session.get(f"{admin}/metrics") as reply:
        found = CPU.search(await reply.text())
    assert found is not None
    return float(found[1])


async def page(session: aiohttp.ClientSession, admin: str, view: str, got: list[int]) -> None:
    """Read as a page does whose view is renewed every two seconds."""

    async def views() -> None:
        while True:
            async with session.get(f"{admin}/cuvee/view/{view}") as reply:
                got[1] += len(await reply.read())
            await asyncio.sleep(2.0)

    asking = asyncio.create_task(views())
    try:
        headers = {"accept": "text/event-stream"}
        async with session.get(f"{admin}/cuvee/events", headers=headers) as reply:
            async for data in reply.content.iter_any():
                got[0] += len(data)
    finally:
        asking.cancel()


async def probe(session: aiohttp.ClientSession, url: str, took_s: list[float]) -> None:
    """Ask a worker for what it answers itself."""
    while True:
        start_s = time.perf_counter()
        async with session.get(f"{url}/v1/models") as reply:
            await reply.read()
        took_s.append(time.perf_counter() - start_s)
        await asyncio.sleep(PROBE_S)


async def measure(
    session: aiohttp.ClientSession, url: str, admin: str, options: argparse.Namespace, number: int
) -> str:
    """One line, with so many pages open."""
    got, took_s = [0, 0], list[float]()
    reading = [page(session, admin, options.view, got) for _ in range(number)]
    tasks = [asyncio.create_task(one) for one in (*reading, probe(session, url, took_s))]
    await asyncio.sleep(SETTLE_S)
    took_s.clear()
    before, got[:] = await cpu_s(session, admin), [0, 0]
    await asyncio.sleep(options.seconds)
    spent = await cpu_s(session, admin) - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    each = max(1, number) * options.seconds
    middle, late = np.quantile(took_s, (0.5, 0.99)) * 1e3
    return (
        f"{number:2} pages: {spent / options.seconds:.2%} of a core; a page gets "
        f"{got[0] / each:,.0f} bytes/s of events, {got[1] / each:,.0f} of its view; "
        f"/v1/models in {middle:.2f} ms (p99 {late:.2f})"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="Of each measurement.")
    parser.add_argument("--view", default="backends", help="The view that pages show.")
    parser.add_argument("--workers", type=int, default=2, help="With 1, one process does it all.")
    options = parser.parse_args()
    plain, packed = (sum(column) for column in zip(*sizes().values(), strict=True))
    print(f"files of the page: {plain:,} bytes, {packed:,} with gzip, once")
    timeout = aiohttp.ClientTimeout(total=None)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with (
            staged(Path(folder), workers=options.workers) as fleet,
            aiohttp.ClientSession(timeout=timeout) as session,
        ):
            await asyncio.sleep(FIRST_S)
            for number in (0, 1, 10, 0, 10, 0):
                line = await measure(session, fleet.url, fleet.admin_url, options, number)
                print(line, flush=True)


if __name__ == "__main__":
    run(main())
