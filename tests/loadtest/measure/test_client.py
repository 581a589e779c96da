"""A closed loop over real sockets, against the emulated engine."""

import asyncio
import contextlib
from dataclasses import replace
from random import Random

import aiohttp
import msgspec
import pytest

from loadtest.emulator import replies
from loadtest.emulator.faults import Faults
from loadtest.emulator.server import Emulator
from loadtest.measure.client import HttpBackend
from loadtest.measure.load import Load, Unmeasurable
from planner.engine import catalogue
from planner.engine.hardware import ENGINES
from planner.engine.profiles import analytic
from planner.engine.roofline import roofline

MODEL = "org/tiny"


def quick_profile():
    """A small model on an H100: an iteration takes about a millisecond."""
    engine = replace(ENGINES["vllm-v1"], iteration_s=1e-3, layer_s=0.0, frontend_s=0.0)
    model = msgspec.structs.replace(
        catalogue.models()["Llama-3-8B"], parameters=2e8, layers=2, hidden=64
    )
    return analytic(
        roofline(catalogue.gpus()["H100"], model, engine),
        max_num_seqs=4,
        max_num_batched_tokens=2048,
        max_model_len=2000,
    )


@contextlib.asynccontextmanager
async def served(*, key=None, **options):
    """An emulated engine, and the client that measures it."""
    emulator = Emulator(quick_profile(), MODEL, **options)
    await emulator.start()
    url = f"http://127.0.0.1:{emulator.port}"
    try:
        async with HttpBackend(url, key=key, random=Random(3), patience_s=0.3) as backend:
            yield emulator, backend
    finally:
        await emulator.stop()


async def test_a_load_has_the_sizes_that_were_wanted():
    """Prompts as long as the engine counts them, answers as long as they are forced to be."""
    async with served() as (emulator, backend):
        (listed,) = await backend.models()
        await backend.prepare(listed.name)
        before = emulator.metrics.finished["length"]

        alone = await backend.play(Load(input_tokens=300, output_tokens=20, users=1))
        found = await backend.play(Load(input_tokens=300, output_tokens=20, users=3))

    assert (listed.name, listed.max_model_len) == (MODEL, 2000)
    assert alone.input_tokens == pytest.approx(300, abs=2)
    assert alone.output_tokens == 20
    assert found.input_tokens == pytest.approx(300, rel=0.2)
    assert found.output_tokens == pytest.approx(20, rel=0.2)
    # Each request takes at least its iterations; the rate is that of three users.
    assert found.tpot_s >= 1e-3
    assert found.rate <= 3 / (found.ttft_s + 15 * found.tpot_s) * 1.001
    assert emulator.metrics.finished["length"] - before >= 3 + 4


async def test_the_engine_says_its_version():
    """Where vLLM, SGLang and TGI have it; of an engine that has none, or says nonsense, none."""
    async with served() as (_, backend):
        assert await backend.version() == replies.VERSION

    async with HttpBackend("http://127.0.0.1:9", key=None, random=Random(3)) as nobody:
        assert await nobody.version() is None


async def test_nothing_of_a_load_is_left_behind():
    """What is under way when it is measured is dropped, and the engine is empty for the next."""
    async with served() as (_, backend):
        await backend.prepare(MODEL)
        await backend.play(Load(input_tokens=100, output_tokens=100, users=4))
        await backend.empty()

        gauges = await backend.gauges()

    assert gauges is not None
    assert gauges.requests == 0
    assert gauges.kv_tokens is not None
    assert gauges.kv_tokens > 0


@pytest.mark.long
async def test_a_busy_backend_is_refused():
    """A stream of somebody else is under way: before the first load, and beside one."""
    async with served() as (_, backend):
        await backend.prepare(MODEL)
        body = {"model": MODEL, "prompt": "hello", "max_tokens": 1900, "ignore_eos": True}
        url = backend.url + "/v1/completions"
        async with aiohttp.ClientSession() as session:
            async with session.post(url, json=body | {"stream": True}):
                with pytest.raises(Unmeasurable, match="busy: 1 requests that are not ours"):
                    await backend.prepare(MODEL)
            await backend.empty()
            load = Load(input_tokens=50, output_tokens=400, users=1)
            measuring = asyncio.ensure_future(backend.play(load))
            while (gauges := await backend.gauges()) is None or not gauges.requests:
                pass
            async with session.post(url, json=body | {"stream": True}):
                with pytest.raises(Unmeasurable, match="it serves 2 requests, and only 1 are ours"):
                    await measuring


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api_key": "secret"}, "answers 401"),
        ({"faults": Faults(status=503)}, "answers 503"),
        ({"faults": Faults(die_after=1)}, "tiny|completions"),
        ({"faults": Faults(error_after=1)}, "completions"),
    ],
    ids=["key", "full", "dies", "error event"],
)
async def test_a_backend_that_fails_says_how(options, words):
    """One failed request ends the measurement: what is left would be the load of fewer users."""
    async with served(**options) as (_, backend):
        with pytest.raises(Unmeasurable, match=words):
            await backend.prepare(MODEL)


async def test_a_key_is_sent():
    """As clients send theirs."""
    async with served(key="secret", api_key="secret") as (_, backend):
        assert [one.name for one in await backend.models()] == [MODEL]
