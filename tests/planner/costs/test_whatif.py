"""Changes of promise, price and GPUs, and what they cost."""

from dataclasses import replace

import numpy as np
import pytest

from planner.costs.curves import MIX, over_rate, over_tpot
from planner.costs.whatif import alternative
from planner.engine import profiles
from planner.engine.points import Point
from planner.engine.profiles import ProfileFile
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(1, 256, 1024, 8192), output_edges=(1, 128, 2048))
USD = {"A10G": 1.0, "A100-80G": 3.4, "H100": 6.9}


def pool(gpu: str, usd: float, gpus: int = 1) -> Pool:
    spec = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, model="Llama-3-8B",
                       tensor_parallel_size=gpus)  # fmt: skip
    name = f"{gpu.lower()}-{gpus}"
    return Pool(name=name, model="m", profile=profiles.build(spec), usd_per_hour=usd * gpus)


POOLS = tuple(pool(gpu, usd) for gpu, usd in USD.items())


def demand(rate: float = 12.0) -> Demand:
    random = np.random.default_rng(1)
    inputs = np.clip(random.lognormal(6, 1, 400), 2, 5000).round()
    outputs = np.clip(random.lognormal(5, 1, 400), 1, 900).round()
    buckets = Buckets(classes=(SloClass(model="m", slo=Slo(ttft_s=2, tpot_s=0.1)),), grid=GRID)
    asked = demand_from_samples(
        buckets, GRID.cell_of(inputs, outputs), inputs, outputs, duration_s=50, dispersion=(2.0,)
    )
    return asked.scaled_to(rate)


@pytest.mark.parametrize(
    ("change", "dearer"),
    [
        ("tpot_s=0.05", True),
        ("attainment=0.9999", True),
        ("rate=48", True),
        ("price.A100-80G=34,price.h100=69", True),
        ("tpot_s=0.3", False),
        ("attainment=0.6", False),
        ("rate=3", False),
        ("price.H100=0.5", False),
        ("with=L4:0.01", False),
    ],
)
def test_each_change_moves_the_cost_its_way(change: str, dearer: bool):
    """A stricter promise, more traffic and dearer GPUs cost more; the contrary costs less."""
    now = provision(demand(), POOLS).usd_per_hour

    then = alternative(change, demand(), POOLS).plan.usd_per_hour

    assert then > now if dearer else then < now


def test_a_lost_type_is_gone_and_a_new_one_there():
    """A type counts by its GPU in any case; a new one has an analytic profile and no bound."""
    lost = alternative("without=a100-80g", demand(), POOLS)
    new = alternative("with=L4", demand(), POOLS, usd={"L4": 0.05})
    both = alternative("with=L4:0.05, without=A10G", demand(), POOLS)

    assert lost.plan.pools == ("a10g-1", "h100-1")
    assert new.plan.pools == (*(p.name for p in POOLS), "new L4")
    assert new.plan.backends[-1] > 0
    assert both.plan.pools == ("a100-80g-1", "h100-1", "new L4")
    assert both.plan.unserved_share == lost.plan.unserved_share == 0


def test_any_row_can_be_tried_but_not_without_the_model_s():
    """GPU types come from the shipped rows; a model known by its points alone has no figures."""
    tried = alternative("with=mi300x:0.5", demand(), POOLS)
    points = tuple(
        Point(input_tokens=i, output_tokens=o, batch=b, tpot_s=0.006 + b * 2e-4 + b * c,
              ttft_s=0.006 + b * (0.004 + 3e-5 * i + 1e-9 * i * i))
        for i, o, c in ((128, 256, 3e-6), (1024, 128, 1.1e-5), (4000, 256, 4.1e-5))
        for b in (1, 8)
    )  # fmt: skip
    spec = ProfileFile(format="cuvee-profile/1", origin="measured", gpu="TPU-9", model="Secret-1T",
                       kv_tokens=100_000, points=points)  # fmt: skip
    alone = (Pool(name="t", model="m", profile=profiles.build(spec), usd_per_hour=1.0),)

    assert tried.plan.pools[-1] == "new MI300X"
    with pytest.raises(InvalidValue, match="with=L4:1`: no figures of Secret-1T"):
        alternative("with=L4:1", demand(), alone)


def test_a_price_is_per_gpu_or_per_backend():
    """By GPU for all of them, times the GPUs of a backend; by pool for a backend of it."""
    twos = (pool("A100-80G", 3.4, gpus=2),)

    by_gpu = alternative("price.A100-80G=1.5", demand(), twos).plan
    by_pool = alternative("price.a100-80g-2=3", demand(), twos).plan

    assert by_gpu.usd_per_hour == by_pool.usd_per_hour == 3 * by_gpu.backends[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("", "KEY=VALUE"), ("tpot_s", "KEY=VALUE"), ("tpot_s=", "KEY=VALUE"),
        ("tpot_s=fast", "not a number"), ("tpot_s=-1", "tpot_s must be positive"),
        ("attainment=1.5", "attainment"), ("colour=red", "unknown `colour`"), ("rate=0", "rate"),
        ("price.TPU=1", "A10G"), ("price.H100=-1", "usd_per_hour"), ("without=TPU", "A10G"),
        ("with=TPU", "known are"), ("with=L4", "no price"), ("with=L4:x", "not a number"),
        ("without=A10G,without=A100-80G,without=H100", "must name"),
    ],
)  # fmt: skip
def test_a_change_that_makes_no_sense_is_refused(change: str, words: str):
    """In one line that says what would."""
    with pytest.raises(InvalidValue, match=words):
        alternative(change, demand(), POOLS)


def test_the_mix_is_on_no_curve_above_a_single_type():
    """At every rate and target; a type that cannot serve everything has no cost there."""
    pools = tuple(replace(p, max_backends=1) for p in POOLS)
    for curves in (
        over_rate(demand(), pools, (2.0, 30.0)),
        over_tpot(demand(), pools, (0.03, 0.1)),
    ):
        mix, *singles = curves
        assert mix.name == MIX
        assert [single.name for single in singles] == list(USD)
        for place, usd in enumerate(mix.usd_per_hour):
            at_place = [single.usd_per_hour[place] for single in singles]
            others = [other for other in at_place if other is not None]
            assert usd is not None
            assert all(usd <= other + 1e-9 for other in others)
    assert singles[0].usd_per_hour[0] is None
