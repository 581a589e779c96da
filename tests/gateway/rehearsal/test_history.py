"""A trace as the router would have seen it."""

from dataclasses import replace

import numpy as np
import pytest

from gateway.access.callers import caller_id
from gateway.config.load import Loaded
from gateway.config.pool_schema import PoolSection
from gateway.config.schema import Config, ModelSection, PlannerSection, SloSection
from gateway.rehearsal.history import demand_of
from gateway.rehearsal.traffic import ObservedTraffic
from gateway.routing.estimator import Estimator
from planner.traffic.trace import Trace

MODEL = "llama-3-8b"


@pytest.fixture
def loaded(buckets, pools):
    section = PoolSection(model=MODEL, profile="x.yaml", backends=())
    return Loaded(
        config=Config(
            models={MODEL: ModelSection(slo=SloSection(ttft_s=2.0, tpot_s=0.1))},
            pools={pool.name: section for pool in pools},
            planner=PlannerSection(dispersion=1.7),
        ),
        pools=pools,
        buckets=buckets,
        workload=None,
    )


def trace(rows, period_s=1.0):
    """Rows of (input, output, key), one every period."""
    inputs, outputs, keys = zip(*rows, strict=True)
    return Trace(
        arrival_s=period_s * np.arange(1, len(rows) + 1),
        input_tokens=np.array(inputs, dtype=float),
        output_tokens=np.array(outputs, dtype=float),
        key=keys,
    )


def test_buckets_are_believed_and_sizes_are_actual(loaded):
    """One long answer among short ones is in the bucket of the short ones, at its own size."""
    rows = [(100, 40, "a")] * 299 + [(100, 480, "a")]
    demand = demand_of(trace(rows), loaded, estimator=Estimator())
    bucket = loaded.buckets.grid.cell(100, 40)

    assert np.flatnonzero(demand.rate).tolist() == [bucket]
    assert demand.rate[bucket] == pytest.approx(1.0)
    assert sorted(demand.output_tokens.round().tolist()) == [40.0, 480.0]
    assert demand.share.min() == pytest.approx(1 / 300)


def test_hits_of_a_trace_are_hits_of_its_demand(loaded):
    """Six of ten prompt tokens, and those of the traffic that is drawn from that demand too."""
    plain = trace([(100, 40, ""), (900, 40, ""), (50, 300, "")] * 100)
    hits = replace(plain, cached_tokens=np.floor(0.6 * plain.input_tokens))
    demand = demand_of(hits, loaded, estimator=Estimator())
    weight = demand.rate[demand.bucket] * demand.share * demand.input_tokens
    drawn = ObservedTraffic(demand, 0, 500).draw(7).trace
    nothing = demand_of(plain, loaded, estimator=Estimator())

    assert weight @ demand.cached_share / weight.sum() == pytest.approx(0.6, abs=0.01)
    assert drawn.cached_tokens.sum() / drawn.input_tokens.sum() == pytest.approx(0.6, abs=0.02)
    assert not ObservedTraffic(nothing, 0, 500).draw(7).trace.cached_tokens.any()


def test_keys_are_told_apart(loaded):
    """Two senders with the same prompts and other habits fall into two buckets."""
    rows = [(100, 33, "short"), (100, 500, "long")] * 300
    demand = demand_of(trace(rows), loaded, estimator=Estimator())

    assert np.count_nonzero(demand.rate) == 2
    assert demand.rate[loaded.buckets.grid.cell(100, 33)] == pytest.approx(0.5)


def test_what_was_learned_serves_on(loaded):
    """The gateway that starts with a trace knows its keys from the first request."""
    estimator = Estimator()
    demand_of(trace([(100, 400, "k")] * 300), loaded, estimator=estimator)

    caller = caller_id(b"Bearer k")
    assert estimator.estimate_size(100, model=MODEL, caller=caller).output_tokens > 380


def test_burstiness_is_measured_where_it_can_be(loaded):
    """A steady trace is Poisson at best; one too short to tell gets what is assumed."""
    steady = demand_of(trace([(100, 40, "")] * 300), loaded, estimator=Estimator())
    short = demand_of(trace([(100, 40, "")] * 10), loaded, estimator=Estimator())

    assert steady.dispersion == (1.0,)
    assert short.dispersion == (1.7,)


def test_an_answer_of_nothing_counts_as_one_token(loaded):
    """Traces hold requests without output; a size is at least one token."""
    demand = demand_of(trace([(100, 0, "")] * 5), loaded, estimator=Estimator())

    assert demand.output_tokens.tolist() == [1.0]
