"""What refinement promises, on random small demands, prices and bounds, with the real router."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.load import Loaded, load
from gateway.rehearsal.certify import Certified, certified
from gateway.rehearsal.harness import replay_harness
from gateway.rehearsal.history import TraceSource, demand_together
from gateway.rehearsal.traffic import Process
from gateway.routing.estimator import Estimator
from planner.model.buckets import SloClass
from planner.slo import Slo
from planner.traffic.trace import Trace

LOADED = load(Path(__file__).resolve().parents[3] / "configs" / "demo.yaml")
MODEL = "llama-3-8b"
LOOSE = SloClass(
    model=MODEL, slo=Slo(ttft_s=20.0, tpot_s=0.4, attainment=0.95), name="batch"
)  # fmt: skip
BUCKETS = replace(LOADED.buckets, classes=(*LOADED.buckets.classes, LOOSE))
SEEDS = 8  # half of what is usual, and stretches half as long: the least that prove anything
FRESH = range(1000, 1000 + 2 * SEEDS)


@pytest.mark.long
@dataclass(frozen=True)
class Instance:
    """A demand of lognormal sizes, prices between half and twice the usual, and a small stock.

    batch: whether half as many requests again come under a looser promise.
    """

    inputs: float
    outputs: float
    rate: float
    usd: tuple[float, float, float]
    most: tuple[int, int, int]
    process: Process
    batch: bool

    @property
    def loaded(self) -> Loaded:
        pools = tuple(
            replace(pool, usd_per_hour=pool.usd_per_hour * times, max_backends=most)
            for pool, times, most in zip(LOADED.pools, self.usd, self.most, strict=True)
        )
        return msgspec.structs.replace(LOADED, pools=pools, buckets=BUCKETS)

    @property
    def sources(self) -> tuple[TraceSource, ...]:
        rng, count = np.random.default_rng(0), 300
        trace = Trace(
            arrival_s=np.cumsum(rng.exponential(0.5, count)),
            input_tokens=np.clip(np.rint(rng.lognormal(np.log(self.inputs), 0.7, count)), 10, 6000),
            output_tokens=np.clip(np.rint(rng.lognormal(np.log(self.outputs), 0.6, count)), 1, 900),
            key=("",) * count,
        )
        second = trace.slice(0.0, trace.duration_s / 2)
        both = (
            TraceSource(trace=trace, model=MODEL),
            TraceSource(trace=replace(second, arrival_s=2 * second.arrival_s), model=MODEL,
                   slo_class="batch"),
        )  # fmt: skip
        return both[: 1 + self.batch]

    def found(self) -> Certified:
        return certified(
            self.loaded, self.sources, rate=self.rate, process=self.process,
            requests=1, seeds=SEEDS,
        )  # fmt: skip

    def fresh(self, found: Certified) -> float:
        """How far the refined plan's worst class lies above its target, every fresh seed played."""
        estimator = Estimator()
        demand_together(self.sources, self.loaded, estimator=estimator)
        # The demand that was planned for, so that the traffic has its rate and its dispersion.
        harness = replay_harness(
            self.sources, found.demand, self.loaded.pools, found.length, process=self.process,
            estimator=estimator,
        )  # fmt: skip
        scores = [harness.play(found.refined.plan, seed) for seed in FRESH]
        margins: list[float] = [
            mean(score.share for score in of) - of[0].slo_class.slo.attainment
            for of in zip(*scores, strict=True)
        ]
        return min(margins)


instances = st.builds(
    Instance,
    inputs=st.floats(60, 1500),
    outputs=st.floats(15, 200),
    rate=st.floats(1, 5),
    usd=st.tuples(*[st.floats(0.5, 2)] * 3),
    most=st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3)),
    process=st.sampled_from(["poisson", "gamma"]),
    batch=st.booleans(),
)


@settings(
    deadline=None, max_examples=6, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(instances)
@pytest.mark.long
def test_refinement_keeps_its_promises(instance: Instance):
    """Never dearer than a certified fleet of one type, nor than the certified plan that was not
    refined; within the stock; and on fresh seeds at most half a point under the target."""
    found = instance.found()
    plan, certificate = found.refined.plan, found.refined.certificate

    proven = [single.usd_per_hour for _, single, _ in found.singles]
    proven += [found.first[0].usd_per_hour] if found.first[1].holds else []
    if proven:
        assert certificate.holds
        assert plan.usd_per_hour <= min(proven) + 1e-9
    assert all(n <= most for n, most in zip(plan.backends, instance.most, strict=True))
    if certificate.holds:
        assert instance.fresh(found) >= -0.005
