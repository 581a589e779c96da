"""What engines say of themselves steers while it is fresh, and only where it is certain."""

import asyncio
import logging
from itertools import pairwise

import pytest

from gateway.config.upstream import Upstream
from gateway.control.scrape import LOOKS, STALE, Scrape
from gateway.routing.backend import Lease
from gateway.routing.fleet import Fleet
from gateway.routing.membership import changed

INTERVAL_S = 1e-4
LONG_S = 1e3
POOL = "h100"


def page(running, waiting=0, awake=1):
    return (
        f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\n"
        f'vllm:engine_sleep_state{{sleep_state="awake"}} {awake}\n'
    ).encode()


async def until(true):
    """Waits for something that another task, or the clock, brings about."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0)


class Engines:
    """A fleet of two, and what its engines will answer, by name of the backend."""

    def __init__(self, table):
        self.fleet = Fleet.of({POOL: ("http://a", "http://b")})
        self.answers = {}
        self.asked = []
        self.gates = {}
        self.scrape = Scrape(self.fleet, self, table=lambda: table)

    @property
    def first(self):
        return self.fleet.backends[0]

    async def page(self, backend):
        self.asked.append(backend.name)
        if backend.name in self.gates:
            await self.gates[backend.name].wait()
        answer = self.answers.get(backend.name, page(0))
        return answer if isinstance(answer, tuple) else (answer, 200, "")

    def upstream(self, pool):
        return Upstream()

    async def looks(self, count, interval_s=LONG_S):
        for _ in range(count):
            await self.scrape.look(interval_s)
            await self.scrape.answered()

    async def later(self, seconds):
        clock = asyncio.get_running_loop().time
        due_s = clock() + seconds
        await until(lambda: clock() > due_s)

    def hold(self, count):
        return [
            Lease(
                self.first, own=0, slots=(0.02,), prefill_s=0.0, bucket=0, plan_id="p", decision="d"
            )
            for _ in range(count)
        ]


@pytest.fixture
def engines(table):
    return Engines(table)


async def test_what_others_have_there_is_load(engines):
    """Only what is beyond ours counts, by the mean load of ours there."""
    engines.hold(5)
    engines.answers = {"h100-0": page(25)}
    await engines.looks(LOOKS - 1)
    before = engines.first.foreign
    await engines.looks(1)

    assert before == 0.0
    assert engines.first.foreign == pytest.approx(20 * 0.02)
    assert engines.fleet.backends[1].foreign == 0.0
    assert [f.foreign for f in engines.scrape.figures(0.0)] == [20, 0]


async def test_where_we_have_nothing_it_counts_as_the_plan_has_it(engines, table):
    """As the mean of the buckets that the pool serves."""
    engines.answers = {"h100-0": page(20)}
    await engines.looks(LOOKS)
    pool = table.pools.index(POOL)
    slots = [
        slot[pool][0] for slot, can in zip(table.slots, table.feasible, strict=True) if can[pool]
    ]

    assert 20 * min(slots) <= engines.first.foreign <= 20 * max(slots)
    assert not engines.first.idle


async def test_requests_on_their_way_are_not_of_others(engines):
    """One that ended here and still runs there, in one look of several; and one that the engine has
    not begun."""
    for more, held in ((3, 0), (0, 3), (3, 0), (0, 0), (2, 0)):
        leases = engines.hold(held)
        engines.answers = {"h100-0": page(more)}
        await engines.looks(1)
        for lease in leases:
            lease.release()

        assert engines.first.foreign == 0.0


async def test_what_is_ours_is_never_taken_for_that_of_others(engines):
    """What came while the question was under way, and what ended then."""
    engines.gates = {"h100-0": asyncio.Event()}
    engines.answers = {"h100-0": page(4)}
    for _ in range(LOOKS + 1):
        before = engines.hold(4)
        await engines.scrape.look(LONG_S)
        await asyncio.sleep(0)
        for lease in before:
            lease.release()
        engines.gates["h100-0"].set()
        await engines.scrape.answered()
        engines.gates["h100-0"].clear()

    assert engines.first.foreign == 0.0


async def test_an_engine_whose_queue_does_not_empty_is_full(engines):
    """Whatever our sums say; with an empty queue it is as they say again."""
    engines.hold(12)
    engines.answers = {"h100-0": page(8, 4)}
    await engines.looks(LOOKS)
    full = engines.first.foreign
    engines.answers = {"h100-0": page(12)}
    await engines.looks(1)

    assert full == pytest.approx(1.0 - 12 * 0.02)
    assert engines.first.foreign == 0.0


async def test_one_that_waits_for_its_iteration_is_no_queue(engines):
    """A prompt that has just come is in the queue for a moment."""
    engines.hold(12)
    engines.answers = {"h100-0": page(11, 1)}
    await engines.looks(LOOKS + 1)

    assert engines.first.foreign == 0.0


async def test_who_sleeps_gets_nothing_until_it_wakes(engines, caplog):
    """It is told once each, and is no failure of any kind."""
    caplog.set_level(logging.INFO)
    states = []
    for awake in (1, 0, 0, 1):
        engines.answers = {"h100-0": page(0, awake=awake)}
        await engines.looks(1)
        states.append(engines.first.live(0.0))

    assert states == [True, False, False, True]
    assert [r.getMessage() for r in caplog.records] == [
        "backend h100-0 (http://a) sleeps: it gets no requests",
        "backend h100-0 (http://a) is awake",
    ]


async def test_what_is_old_does_not_steer(engines):
    """An engine that answers no more is as if it had never been asked, and so is one that is
    down."""
    for silent in (True, False):
        engines.answers = {"h100-0": page(20, awake=0)}
        await engines.looks(LOOKS)
        assert engines.first.asleep
        assert engines.first.foreign > 0.0
        if silent:
            engines.answers = {"h100-0": (None, 0, "/metrics did not come")}
        else:
            engines.first.probed(False)
        await engines.later(STALE * INTERVAL_S)
        await engines.looks(1, INTERVAL_S)

        assert (engines.first.asleep, engines.first.foreign) == (False, 0.0)
        assert engines.scrape.state("h100-0") is None
        engines.first.probed(True)


async def test_an_interval_of_zero_asks_nobody_and_forgets(engines):
    """The configuration can turn it off while the gateway runs."""
    engines.answers = {"h100-0": page(20)}
    await engines.looks(LOOKS)
    asked = len(engines.asked)
    await engines.looks(1, 0.0)

    assert len(engines.asked) == asked
    assert engines.first.foreign == 0.0


async def test_a_slow_engine_delays_no_other(engines):
    """Nor is it asked again before it has answered."""
    engines.gates = {"h100-0": asyncio.Event()}
    for _ in range(4):
        await engines.scrape.look(LONG_S)
        await until(lambda: not engines.scrape._watched["h100-1"].asking)
    asked = sorted(engines.asked)
    engines.gates["h100-0"].set()
    await engines.scrape.answered()

    assert asked == ["h100-0", *["h100-1"] * 4]


async def test_questions_begin_in_turns(engines):
    """What else the event loop has to do is done between any two of them."""
    turns: list[int] = []

    async def active():
        while len(turns) < 50:
            turns.append(len(engines.asked))
            await asyncio.sleep(0)

    await asyncio.gather(active(), engines.scrape.look(LONG_S))

    assert turns[-1] == 2
    assert {after - before for before, after in pairwise(turns)} == {0, 1}


@pytest.mark.parametrize(
    "answer", [(None, 404, "/metrics answered 404"), b"<html>", b"up 1\n", (None, 401, "no")]
)
async def test_an_engine_without_metrics_is_asked_rarely_and_told_once(engines, caplog, answer):
    """It serves all the same."""
    caplog.set_level(logging.INFO)
    engines.answers = {"h100-0": answer}
    await engines.looks(5)

    assert engines.asked.count("h100-0") == 1
    assert engines.first.live(0.0)
    (line,) = caplog.records
    assert line.levelno == logging.INFO
    assert line.getMessage().startswith("backend h100-0 (http://a) shows no metrics: ")
    assert [f.failures for f in engines.scrape.figures(0.0)] == [0]


async def test_failures_are_counted_and_told_once_until_it_is_well_again(engines, caplog):
    """The age says how long nothing came."""
    caplog.set_level(logging.INFO)
    good = page(1)
    for answer in (good, (None, 500, "/metrics answered 500"), (None, 0, "late"), good):
        engines.answers = {"h100-0": answer}
        await engines.looks(1)
    now_s = asyncio.get_running_loop().time() + 5.0
    figures = engines.scrape.figures(now_s)

    assert figures[0].failures == 2
    assert figures[0].age_s >= 5.0
    assert [r.getMessage() for r in caplog.records] == [
        "backend h100-0 (http://a) did not show its metrics: /metrics answered 500",
        "backend h100-0 (http://a) shows its metrics again",
    ]


async def test_our_own_lateness_is_nobodys_failure(engines):
    """A process that was stopped knows nothing of the engines."""
    engines.answers = {"h100-0": (None, None, "no free file descriptor")}
    await engines.looks(3)

    assert [f.backend for f in engines.scrape.figures(0.0)] == ["h100-1"]


async def test_who_left_is_forgotten_and_who_came_is_asked(engines):
    """The fleet changes while the loop runs; also while a question is under way."""
    engines.gates = {"h100-0": asyncio.Event()}
    await engines.scrape.look(LONG_S)
    engines.fleet.apply(changed(engines.fleet.membership, {POOL: ("http://b", "http://c")}))
    for backend in engines.fleet.backends:
        backend.probed(True)
    engines.gates["h100-0"].set()
    await engines.scrape.answered()
    await engines.looks(1)

    assert set(engines.scrape._watched) == {"h100-1", "h100-2"}
    assert engines.asked[-1] == "h100-2"


async def test_the_loop_survives_an_error_of_ours(engines):
    """One broken question costs one question."""
    engines.answers = {"h100-0": 17, "h100-1": page(2)}
    task = asyncio.create_task(engines.scrape.run(lambda: INTERVAL_S))
    await until(lambda: engines.asked.count("h100-0") >= 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert engines.asked.count("h100-1") >= 2
