"""What backends say of themselves when they come up, asked over real sockets."""

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
import yaml

from gateway.config.load import load
from gateway.preflight.acquaintance import AGAIN, Acquaintance
from gateway.proxy.probe import Probe
from gateway.routing.fleet import Fleet
from loadtest.emulator.replies import VERSION
from loadtest.emulator.server import Emulator
from planner.engine.profiles import FORMAT, ProfileFile, find_profile, write
from planner.shipped import folder

PROFILE = find_profile("llama-3-8b/H100", folder())


class Met:
    """A gateway's acquaintance with emulated engines, and the limits that it told."""

    def __init__(self, acquaintance, fleet):
        self.acquaintance = acquaintance
        self.backends = fleet.backends
        self.limits = []

    async def round(self):
        """One round of probes; whether each backend is well, and why."""
        found = [await self.acquaintance.well(backend) for backend in self.backends]
        for backend, (up, _) in zip(self.backends, found, strict=True):
            backend.probed(bool(up))
        self.acquaintance.settle({backend.name for backend in self.backends})
        return found


@asynccontextmanager
async def met(tmp_path, *emulators, model=None, profile="llama-3-8b/H100", **pool):
    """One pool of these engines, for the model `m`."""
    async with AsyncExitStack() as stack:
        urls = []
        for one in emulators:
            urls.append(f"http://127.0.0.1:{await one.start()}")
            stack.push_async_callback(one.stop)
        section = {"model": "m", "profile": profile, "usd_per_hour": 1.0, "backends": urls} | pool
        slo = {"slo": {"ttft_s": 2.0, "tpot_s": 0.1}} | (model or {})
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump({"models": {"m": slo}, "pools": {"h100": section}}))
        loaded = load(path)
        fleet = Fleet.of({"h100": urls})
        found = Met(None, fleet)
        probe = await stack.enter_async_context(
            Probe(timeout_s=10.0, upstreams=dict(loaded.upstreams))
        )
        acquaintance = Acquaintance(loaded, probe, on_limits=found.limits.append)
        found.acquaintance = await stack.enter_async_context(acquaintance)
        yield found


def emulator(model="m", **changes):
    return Emulator(replace(PROFILE, **changes), model)


async def test_an_engine_of_another_model_gets_no_traffic(tmp_path, caplog):
    """It counts as down, with both names as the reason; told once to those that were not told by
    the probes that took it down."""
    with caplog.at_level(logging.WARNING, "cuvee"):
        async with met(tmp_path, emulator(), emulator("other")) as found:
            rounds = [await found.round() for _ in range(3)]

    assert [up for up, _ in rounds[0]] == [True, False]
    assert "does not serve `m`, but `other`" in rounds[0][1][1]
    assert [[up for up, _ in one] for one in rounds[1:]] == [[True, False]] * 2
    assert caplog.messages == []  # the probes' own line at the first round has it


async def test_a_new_engine_of_another_model_is_told(tmp_path, caplog):
    """It was down before its first probe, so that no line says that it went down."""
    with caplog.at_level(logging.WARNING, "cuvee"):
        async with met(tmp_path, emulator("other")) as found:
            found.backends[0].probed(False)
            for _ in range(3):
                await found.round()

    [line] = caplog.messages
    assert "is down: it does not serve `m`, but `other`" in line


@pytest.mark.parametrize(
    ("model", "pool"),
    [({}, {"served_name": "other"}), ({"adapters": ["other"]}, {"served_name": "other"})],
)
async def test_the_engines_name_counts(tmp_path, model, pool):
    """Not the one that clients send."""
    async with met(tmp_path, emulator("other"), model=model, **pool) as found:
        [(up, _)] = await found.round()

    assert up


async def test_a_missing_adapter_is_told_by_name(tmp_path, caplog):
    """The engine serves its base all the same."""
    with caplog.at_level(logging.WARNING, "cuvee"):
        async with met(tmp_path, emulator(), model={"adapters": ["sql"]}) as found:
            rounds = [await found.round() for _ in range(2)]

    assert [up for ((up, _),) in rounds] == [True, True]
    [line] = caplog.messages
    assert "does not have `sql`" in line


async def test_a_missing_adapter_keeps_its_requests_away_until_it_is_loaded(tmp_path):
    """By the clients' name for it, if another backend has it. Who lacks something is asked again
    every few rounds."""
    bare, full = emulator(), Emulator(PROFILE, "m", loras=["sql-3"])
    model, names = {"adapters": ["sql", "code"]}, {"sql": "sql-3", "code": None}
    async with met(tmp_path, bare, full, model=model, adapters=names) as found:
        await found.round()
        acquaintance = found.acquaintance
        assert acquaintance.lacks == {"h100-0": ("sql",)}
        bare.served = replace(bare.served, loras=("sql-3",))
        for _ in range(AGAIN):
            await found.round()
        assert acquaintance.lacks == {}


@pytest.mark.parametrize(("pool", "lines"), [({}, 1), ({"forward_authorization": True}, 0)])
async def test_an_engine_that_asks_for_a_key_is_told(tmp_path, caplog, pool, lines):
    """With the keys that would help; not where it is the clients who have one."""
    keyed = Emulator(PROFILE, "m", api_key="k")
    with caplog.at_level(logging.WARNING, "cuvee"):
        async with met(tmp_path, keyed, **pool) as found:
            rounds = [await found.round() for _ in range(2)]

    assert [up for ((up, _),) in rounds] == [True, True]
    assert ["asks for a key" in line and "api_key_file" in line for line in caplog.messages] == (
        [True] * lines
    )


async def test_the_least_limits_of_a_pool_are_told_once(tmp_path):
    """What every engine of the pool can do; told again only when it changes."""
    engines = emulator(max_model_len=4096), emulator(kv_tokens=50_000)
    async with met(tmp_path, *engines) as found:
        for _ in range(3):
            await found.round()

    [limits] = found.limits
    assert limits["h100"].context == 4096
    assert limits["h100"].kv_tokens <= 50_000


async def test_who_comes_back_is_asked_again(tmp_path):
    """It may be another engine by then."""
    one = emulator()
    async with met(tmp_path, one) as found:
        await found.round()
        port = int(found.backends[0].url.rpartition(":")[2])
        one.crash()
        [(up, _)] = await found.round()
        assert not up
        other = emulator("other")
        await other.start(port=port)
        [(up, reason)] = await found.round()
        await other.stop()

    assert not up
    assert "does not serve `m`" in reason


@pytest.mark.parametrize(("fitted", "lines"), [(VERSION, 0), ("0.2.7", 1)])
async def test_engines_of_another_version_are_told_once(tmp_path, caplog, fitted, lines):
    """As the engines themselves tell it; two of one pool and version are one line."""
    spec = ProfileFile(
        format=FORMAT, origin="analytic", gpu="H100", model="Llama-3-8B", engine_version=fitted
    )
    write(spec, tmp_path / "profile.yaml")
    with caplog.at_level(logging.WARNING, "cuvee"):
        async with met(tmp_path, emulator(), emulator(), profile="profile.yaml") as found:
            await found.round()

    assert [
        f"runs version {VERSION}, and its profile was fitted for {fitted}" in line
        for line in caplog.messages
    ] == [True] * lines
