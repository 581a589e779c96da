import asyncio
import os
import time

from loadtest.overhead.timer import Timer


async def test_an_alarm_rings_when_it_is_due_and_not_before():
    """Each setting rings once, at the earliest at its time; a time that is over rings at once."""
    rung: asyncio.Queue[float] = asyncio.Queue()
    with Timer(lambda: rung.put_nowait(time.monotonic())) as timer:
        for due_s in (time.monotonic() + 0.003, 0.0):
            timer.set(due_s)

            assert await rung.get() >= due_s
    assert rung.empty()


async def test_setting_an_alarm_replaces_what_was_set():
    """Only the last time counts."""
    rung: asyncio.Queue[float] = asyncio.Queue()
    with Timer(lambda: rung.put_nowait(time.monotonic())) as timer:
        timer.set(time.monotonic() + 3600)
        timer.set(time.monotonic() + 0.001)

        await rung.get()
    assert rung.empty()


async def test_an_alarm_leaves_no_file_open():
    """Open loops come and go."""
    before = len(os.listdir("/proc/self/fd"))
    with Timer(lambda: None) as timer:
        timer.set(time.monotonic() + 3600)

    assert len(os.listdir("/proc/self/fd")) == before
