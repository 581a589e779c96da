"""One model on three GPU types, a plan for it, and what is made from it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import uvloop

from gateway.routing.fleet import Fleet
from gateway.routing.table import compile_table
from planner.engine import profiles
from planner.model.buckets import Buckets, SloClass
from planner.model.pool import Pool
from planner.program import solve
from planner.sizes import Grid, log_edges
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
# Run on both loops: sockets differ.
WIRE = ("test_backend", "test_client", "test_command", "test_listener", "test_pool")
MODEL = "llama-3-8b"


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item):
    """The wire on the product's loop and on Python's own, the rest on the latter."""
    if item.path.stem in WIRE:
        return LOOPS
    return {"asyncio": LOOPS["asyncio"]}


class Wire:
    """A transport that notes what is done to it, for fuzzing without sockets."""

    def __init__(self):
        self.written = b""
        self.closed = self.aborted = self.paused = self.ended = False
        self.unsent = 0  # what `get_write_buffer_size` tells

    def write(self, data):
        assert not self.ended, "written after its end"
        if not self.closed:
            self.written += data

    def writelines(self, parts):
        self.write(b"".join(parts))

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.ended = True

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = self.aborted = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def get_write_buffer_size(self):
        return self.unsent


@pytest.fixture(scope="session")
def wire():
    """Makes transports."""
    return Wire


@pytest.fixture(scope="session")
def buckets():
    """One class of 5 × 4 cells."""
    return Buckets(
        classes=(SloClass(model=MODEL, slo=Slo(ttft_s=2.0, tpot_s=0.1)),),
        grid=Grid(input_edges=log_edges(64, 2048), output_edges=log_edges(32, 512)),
    )


@pytest.fixture(scope="session")
def pools():
    """A10G, A100-80G and H100, at most four backends each."""
    prices = {"a10g": 1.0, "a100-80g": 3.4, "h100": 6.9}
    return tuple(
        Pool(
            name=gpu,
            model=MODEL,
            profile=profiles.find_profile(f"{MODEL}/{gpu}", Path()),
            usd_per_hour=usd,
            max_backends=4,
        )
        for gpu, usd in prices.items()
    )


@pytest.fixture(scope="session")
def make_demand(buckets):
    """A demand of lognormal sizes at a rate: `make_demand(rate, inputs=…, outputs=…)`."""

    def make(rate, inputs=300, outputs=120, seed=1):
        rng = np.random.default_rng(seed)
        i = np.clip(np.rint(rng.lognormal(np.log(inputs), 0.6, 400)), 10, 2000)
        o = np.clip(np.rint(rng.lognormal(np.log(outputs), 0.5, 400)), 2, 500)
        return demand_from_samples(
            buckets, buckets.grid.cell_of(i, o), i, o, duration_s=400 / rate, dispersion=(1.2,)
        )

    return make


@pytest.fixture(scope="session")
def plan(make_demand, pools):
    """The cheapest fleet for 12 requests/s."""
    return solve.provision(make_demand(12.0), pools)


@pytest.fixture
def table(plan, pools):
    return compile_table(plan, pools)


@pytest.fixture
def fleet(pools):
    """Three backends a pool."""
    return Fleet.of({p.name: tuple(f"http://{p.name}:{n}" for n in range(3)) for p in pools})
