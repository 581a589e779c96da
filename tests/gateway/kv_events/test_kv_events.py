"""Events over real sockets: what engines forget is not believed, and what goes wrong is told."""

import asyncio
import random

import msgspec
import pytest

from gateway.config.kv_events_schema import KvEventsSection
from gateway.config.load import Loaded
from gateway.config.pool_schema import PoolSection
from gateway.config.schema import Config
from gateway.kv_events.cache_ledger import PROMPT_TOKENS, SURE
from gateway.kv_events.kv_events import LOOP, PATIENCE_S, SILENT_TOKENS, KvEvents
from gateway.routing.fleet import Fleet
from gateway.routing.membership import changed
from gateway.routing.prefix_index import PrefixIndex
from gateway.telemetry.loops import Loops
from loadtest.emulator.kv_publisher import KvPublisher
from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid, log_edges
from planner.slo import Slo

pytest.importorskip("zmq")

POOL, ROWS = "a10g", 8
HOST = "127.0.0.1"
BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1.0, tpot_s=0.1)),),
    grid=Grid(input_edges=log_edges(64, 2048), output_edges=log_edges(32, 512)),
)
SIZE = PROMPT_TOKENS // 16  # blocks of a prompt
OLD, NEW = ([range(n, n + SIZE) for n in range(at, at + 100 * SURE, 100)] for at in (1, 51))
RANDOM = random.Random(1)
FIRST, SECOND = ([RANDOM.getrandbits(60) for _ in range(5)] for _ in range(2))  # hashes of prompts
GIVEN = 4096  # tokens of each


async def until(true):
    """Waits for something that a socket brings about."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.005)


async def in_touch(publisher, stream):
    """Returns when a stream has heard all that its publisher sends. What is sent before the
    subscription reached the publisher is lost."""
    async with asyncio.timeout(10):
        while not stream.batches:
            publisher.cleared()
            await asyncio.sleep(0.01)
    await until(lambda: stream._sequence.expected == publisher._number)


def configured(section):
    """A configuration of one pool."""
    pool = PoolSection(model="m", profile="p", kv_events=section)
    config = Config(models={}, pools={POOL: pool})
    return Loaded(config=config, pools=(), buckets=BUCKETS, workload=None)


class Hearing:
    """A fleet of one, its publishers, and who hears them. now_s: of looks."""

    def __init__(self, table, publishers, **section):
        self.publishers = publishers
        for publisher in publishers:
            publisher.start(HOST)
        self.fleet = Fleet.of({POOL: ("http://127.0.0.1:1",)})
        (self.backend,) = self.fleet.backends
        self.backend.probed(True)
        self.index = PrefixIndex(bytearray(8 * PrefixIndex.words(rows=ROWS)), rows=ROWS)
        self.room = table.kv_tokens[table.pools.index(POOL)]
        for row in range(ROWS):
            self.index.span(row, self.room)
        self.loops, self.shown, self.now_s = Loops(), [], 0.0
        section = {"endpoint": f"tcp://{{host}}:{publishers[0].port}"} | section
        if publishers[0].replay_port is not None:
            section["replay_endpoint"] = f"tcp://{{host}}:{publishers[0].replay_port}"
        self.loaded = configured(KvEventsSection(ranks=len(publishers), **section))
        self.events = KvEvents(
            self.fleet,
            loaded=lambda: self.loaded,
            index=lambda: self.index,
            table=lambda: table,
            loops=self.loops,
            show=self._show,
        )

    def _show(self, figures):
        self.shown = figures

    @property
    def figures(self):
        self.events.look(self.now_s)
        return self.shown[0]

    @property
    def error(self):
        self.events.look(self.now_s)
        return self.loops.records[LOOP].error

    def knows(self, prompt):
        return self.index.find(prompt) == {0: len(prompt)}

    async def heard(self, events):
        await until(lambda: self.figures.events >= events)


@pytest.fixture
async def hear(table):
    """Makes hearings, which end with the test."""
    made = []

    async def make(*publishers, **section):
        hearing = Hearing(table, publishers or (KvPublisher(),), **section)
        made.append(hearing)
        await until(lambda: hearing.figures.connected)
        streams = hearing.events._heard[f"{POOL}-0"].streams
        for publisher, stream in zip(publishers or hearing.publishers, streams, strict=True):
            await in_touch(publisher, stream)
        return hearing

    yield make
    for hearing in made:
        hearing.events._close()
        for publisher in hearing.publishers:
            publisher.stop()


def tokens(blocks):
    return ["t"] * (16 * len(blocks))


def store(publisher, prompts):
    """A batch for each prompt."""
    for prompt in prompts:
        publisher.stored(prompt, None, tokens(prompt), 16)


def remove(publisher, prompts):
    """One batch."""
    publisher.removed([block for prompt in prompts for block in prompt])


@pytest.mark.parametrize("arrays", [True, False])
async def test_a_cache_that_was_cleared_is_forgotten(hear, arrays):
    """All that was noted for that backend, at once; and it holds nothing."""
    hearing = await hear(KvPublisher(arrays=arrays))
    hearing.publishers[0].stored([1, 2, 3], None, tokens([1, 2, 3]), 16)
    hearing.index.note(FIRST, 0, GIVEN)
    hearing.index.note(FIRST, 1, GIVEN)
    await until(lambda: hearing.figures.held_tokens == 48)
    assert hearing.index.find(FIRST) == {0: 5, 1: 5}
    hearing.publishers[0].cleared()

    await until(lambda: hearing.figures.held_tokens == 0)

    assert hearing.index.find(FIRST) == {1: 5}


async def test_what_was_evicted_is_forgotten_and_what_is_newer_stays(hear):
    """An engine that holds less than is thought, or that others use too."""
    hearing = await hear()
    publisher = hearing.publishers[0]
    hearing.index.note(FIRST, 0, GIVEN)
    hearing.index.note(SECOND, 0, GIVEN)
    store(publisher, OLD)
    store(publisher, NEW)
    await until(lambda: hearing.figures.held_tokens == 2 * SURE * PROMPT_TOKENS)
    assert hearing.knows(FIRST)
    clock = hearing.index.clock(0)

    remove(publisher, OLD)

    await until(lambda: not hearing.knows(FIRST))
    assert hearing.knows(SECOND)
    assert hearing.figures.held_tokens == SURE * PROMPT_TOKENS
    hearing.index._memory[0] = clock  # as a worker that writes at the same moment may
    hearing.index.span(0, hearing.room)
    assert hearing.knows(FIRST)
    hearing.events.look(0.0)
    assert not hearing.knows(FIRST)


async def test_prompts_under_way_are_not_taken_for_older(hear):
    """What is stored now was noted before much of what the engine has to do."""
    hearing = await hear()
    hearing.index.note(FIRST, 0, GIVEN)
    hearing.index.note(SECOND, 0, GIVEN)
    hearing.backend.memory = (GIVEN + 100) / hearing.room
    before = hearing.figures.events
    store(hearing.publishers[0], OLD)
    remove(hearing.publishers[0], OLD)

    await hearing.heard(before + SURE + 1)

    assert hearing.knows(FIRST)


async def test_a_prompt_in_one_of_two_ranks_stays_until_both_would_have_forgotten_it(hear):
    """Nobody knows which of them has it."""
    for port in range(20_000, 30_000, 7):
        one, two = KvPublisher(port), KvPublisher(port + 1)
        try:
            hearing = await hear(one, two)
            break
        except OSError:
            one.stop()
            two.stop()
    hearing.index.note(FIRST, 0, GIVEN)
    hearing.index.note(SECOND, 0, GIVEN)
    before = hearing.figures.events
    for publisher in (one, two):
        store(publisher, OLD)
    await hearing.heard(before + 2 * SURE)

    remove(one, OLD)
    await hearing.heard(before + 2 * SURE + 1)
    assert hearing.knows(FIRST)
    assert hearing.figures.held_tokens == SURE * PROMPT_TOKENS
    remove(two, OLD)

    await until(lambda: not hearing.knows(FIRST))


async def test_what_was_lost_is_asked_for(hear):
    """Where there is somebody to ask, nothing is unknown."""
    hearing = await hear(KvPublisher(replay_port=0))
    publisher = hearing.publishers[0]
    batch = {"ts": 1.0, "events": [{"type": "BlockStored", "block_hashes": [1], "block_size": 16}]}
    for _ in range(3):
        publisher.send(msgspec.msgpack.encode(batch), lost=True)
    publisher.stored([2], None, tokens([2]), 16)

    await until(lambda: hearing.figures.held_tokens == 64)

    assert hearing.figures.gaps == 1


async def test_an_answer_that_is_garbage_is_as_none(hear):
    """What came by itself is taken all the same, and no more is asked for it."""
    hearing = await hear(KvPublisher(replay_port=0))
    publisher = hearing.publishers[0]
    before = hearing.figures.events
    publisher.send(b"\xc1", lost=True)
    for n in range(3):
        publisher.stored([n], None, tokens([n]), 16)

    await hearing.heard(before + 3)

    assert hearing.figures.gaps == 1
    assert hearing.figures.held_tokens is None
    assert hearing.error is None


async def test_what_was_published_before_is_asked_for(hear):
    """The gateway may start when its engines have run for long."""
    publisher = KvPublisher(replay_port=0)
    for n in range(5):
        publisher.stored([n], None, tokens([n]), 16)

    hearing = await hear(publisher)

    assert hearing.figures.held_tokens == 0  # it was cleared since
    assert hearing.figures.events > 5
    assert hearing.figures.gaps == 0


async def test_a_gap_makes_it_unknown_until_it_is_cleared(hear, caplog):
    """Where nobody can be asked, it is as without events."""
    hearing = await hear()
    publisher = hearing.publishers[0]
    hearing.index.note(FIRST, 0, GIVEN)
    hearing.index.note(SECOND, 0, GIVEN)
    before = hearing.figures.events
    store(publisher, OLD)
    await hearing.heard(before + SURE)
    publisher.send(b"lost", lost=True)
    remove(publisher, OLD)

    await until(lambda: hearing.figures.gaps == 1)

    assert hearing.figures.held_tokens is None
    assert hearing.knows(FIRST)
    assert "are lost" in caplog.text
    publisher.cleared()
    await until(lambda: hearing.figures.held_tokens == 0)


async def test_a_publisher_that_counts_anew_is_another_engine(hear):
    """It has nothing of what was there."""
    hearing = await hear()
    old = hearing.publishers[0]
    for _ in range(3):
        old.stored([1], None, tokens([1]), 16)
    await until(lambda: hearing.figures.held_tokens == 48)
    hearing.index.note(FIRST, 0, GIVEN)
    old.stop()
    await until(lambda: not hearing.figures.connected)
    assert hearing.figures.held_tokens is None

    new = KvPublisher(old.port)
    new.start(HOST)
    hearing.publishers = (new,)
    await until(lambda: hearing.figures.connected)
    while hearing.figures.held_tokens is None:
        new.stored([1], None, tokens([1]), 16)
        await asyncio.sleep(0.01)

    assert not hearing.knows(FIRST)


async def test_garbage_is_named_and_what_follows_is_heard(hear, caplog):
    """Once in the log, and in the state of the loop; nothing is forgotten for it."""
    hearing = await hear()
    hearing.index.note(FIRST, 0, GIVEN)
    for payload in (b"\xc1", b"no events", b""):
        hearing.publishers[0].send(payload)

    await until(lambda: hearing.error is not None)

    error = hearing.error
    assert f"backend {POOL}-0: tcp://127.0.0.1:{hearing.publishers[0].port} sends" in error
    assert hearing.figures.held_tokens is None
    assert hearing.knows(FIRST)
    assert caplog.text.count("sends what are no KV events") == 1
    hearing.publishers[0].stored([1], None, tokens([1]), 16)
    await until(lambda: hearing.error is None)


async def test_nobody_there_is_named(hear, caplog):
    """After some patience, and not of an engine that is known to be down."""
    hearing = await hear()
    port = hearing.publishers[0].port
    hearing.index.note(FIRST, 0, GIVEN)
    hearing.publishers[0].stop()
    await until(lambda: not hearing.figures.connected)
    assert hearing.error is None

    hearing.backend.probed(False)
    hearing.now_s += PATIENCE_S
    assert hearing.error is None
    hearing.backend.probed(True)
    hearing.now_s += PATIENCE_S

    line = f"nobody publishes KV events at tcp://127.0.0.1:{port}"
    assert hearing.error == f"backend {POOL}-0: {line}"
    assert line in caplog.text
    assert hearing.knows(FIRST)


async def test_an_engine_that_publishes_nothing_is_named(table):
    """As with another topic: it is there, it got prompts, and it says nothing."""
    hearing = Hearing(table, (KvPublisher(topic="other"),), topic="kv-events")
    try:
        await until(lambda: hearing.figures.connected)
        hearing.publishers[0].stored([1], None, tokens([1]), 16)
        assert hearing.error is None

        hearing.index.forget(0)  # it was down: the clock is put forward, and nothing was given
        assert hearing.error is None

        for _ in range(10):
            assert hearing.error is None
            hearing.index.note([], 0, SILENT_TOKENS // 10 + 1)

        error = hearing.error
        assert error is not None
        assert "publishes no KV events with the topic 'kv-events'" in error
    finally:
        hearing.events._close()
        hearing.publishers[0].stop()


async def test_two_engines_have_no_one_publisher(hear, caplog):
    """As backends that are discovered on one host may seem to: the second is not heard, which is
    said once in the log. Two pools may have one engine."""
    hearing = await hear()
    urls = {POOL: ("http://127.0.0.1:1", "http://127.0.0.1:2"), "b": ("http://127.0.0.1:1",)}
    hearing.fleet.apply(changed(hearing.fleet.membership, urls, pools=tuple(urls)))
    both = hearing.loaded.config.pools[POOL]
    pools = {POOL: both, "b": both}
    config = msgspec.structs.replace(hearing.loaded.config, pools=pools)
    hearing.loaded = msgspec.structs.replace(hearing.loaded, config=config)

    for _ in range(3):
        error = hearing.error

    port = hearing.publishers[0].port
    assert error == (
        f"backend {POOL}-1: tcp://127.0.0.1:{port} is that of backend {POOL}-0 already"
    )
    assert caplog.text.count("are not heard") == 1
    assert [one.backend for one in hearing.shown] == [f"{POOL}-0", "b-0"]


async def test_backends_and_sections_come_and_go(hear):
    """Who leaves is heard no more, and the loop is no more when nobody is to publish."""
    hearing = await hear()
    assert hearing.error is None

    hearing.loaded = configured(None)
    hearing.events.look(0.0)

    assert list(hearing.shown) == []
    assert LOOP not in hearing.loops.records


async def test_the_loop_goes_on_after_a_mistake(table):
    """A look that fails is told, and the next one comes; at its end it closes its sockets."""
    calls, loops = [], Loops()

    def loaded():
        calls.append(1)
        raise RuntimeError("no configuration")

    index = PrefixIndex(bytearray(8 * PrefixIndex.words(rows=ROWS)), rows=ROWS)
    hearing = KvEvents(
        Fleet.of({POOL: ()}), loaded=loaded, index=lambda: index, table=lambda: table, loops=loops
    )
    task = asyncio.create_task(hearing.run())
    await until(lambda: len(calls) == 2)
    task.cancel()

    assert loops.records[LOOP].failures == 2
    assert "no configuration" in (loops.records[LOOP].error or "")
