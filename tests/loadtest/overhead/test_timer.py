"""The timer of the open loop."""

import asyncio
import os
import time

from loadtest.overhead.timer import Timer


async def test_a_timer_fires_when_it_is_due_and_not_before():
    """Each setting fires once, at its time at the earliest; a time that is over fires at once."""
    fired: asyncio.Queue[float] = asyncio.Queue()
    with Timer(lambda: fired.put_nowait(time.monotonic())) as timer:
        for due_s in (time.monotonic() + 0.003, 0.0):
            timer.set(due_s)

            assert await fired.get() >= due_s
    assert fired.empty()


async def test_setting_a_timer_replaces_what_was_set():
    """Only the last time counts."""
    fired: asyncio.Queue[float] = asyncio.Queue()
    with Timer(lambda: fired.put_nowait(time.monotonic())) as timer:
        timer.set(time.monotonic() + 3600)
        timer.set(time.monotonic() + 0.001)

        await fired.get()
    assert fired.empty()


async def test_a_timer_leaves_no_file_open():
    """Open loops come and go."""
    before = len(os.listdir("/proc/self/fd"))
    with Timer(lambda: None) as timer:
        timer.set(time.monotonic() + 3600)

    assert len(os.listdir("/proc/self/fd")) == before
