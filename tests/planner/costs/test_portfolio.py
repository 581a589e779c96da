"""Portfolios for hourly histories."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs.portfolio import Portfolio, buy_portfolio, read_hourly_rates
from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.errors import InvalidFile, InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(1, 512, 8192), output_edges=(1, 128, 2048))
USD = {"A10G": 1.0, "A100-80G": 3.4, "H100": 6.9}


def pool(gpu: str, usd: float, gpus: int = 1, name: str | None = None) -> Pool:
    spec = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, model="Llama-3-8B",
                       tensor_parallel_size=gpus)  # fmt: skip
    profile = profiles.build(spec)
    return Pool(name=name or gpu, model="m", profile=profile, usd_per_hour=usd * gpus)


POOLS = tuple(pool(gpu, usd) for gpu, usd in USD.items())
DAY = 20 + 15 * np.sin(np.arange(24) * 2 * np.pi / 24)


def demand(tpot_s: float = 0.1) -> Demand:
    random = np.random.default_rng(1)
    inputs = np.clip(random.lognormal(6, 1, 300), 2, 5000).round()
    outputs = np.clip(random.lognormal(5, 1, 300), 1, 900).round()
    buckets = Buckets(classes=(SloClass(model="m", slo=Slo(ttft_s=2, tpot_s=tpot_s)),), grid=GRID)
    return demand_from_samples(
        buckets, GRID.cell_of(inputs, outputs), inputs, outputs, duration_s=50, dispersion=(2.0,)
    )


def sum_of_lines(portfolio: Portfolio) -> float:
    return sum(line.committed_usd + line.on_demand_usd + line.spot_usd for line in portfolio.lines)


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.floats(0, 60), min_size=1, max_size=6).filter(lambda rates: max(rates) > 1e-3),
    st.sampled_from((0.0, 0.4, 0.7, 1.0)), st.booleans(),
)  # fmt: skip
def test_never_dearer_than_all_on_demand(rates: list[float], discount: float, spot: bool):
    """Nor than one type with commitments of its own; and the lines sum to the bill."""
    prices = {"H100": 2.0, "A10G": 0.3} if spot else {}

    portfolio = buy_portfolio(demand(), POOLS, np.array(rates), discount=discount, spot=prices)

    assert portfolio.usd <= portfolio.on_demand_usd + 1e-6
    assert portfolio.single_usd is not None
    assert portfolio.single_on_demand_usd is not None
    assert portfolio.usd <= portfolio.single_usd + 1e-6
    assert portfolio.on_demand_usd <= portfolio.single_on_demand_usd + 1e-6
    assert sum_of_lines(portfolio) == pytest.approx(portfolio.usd, abs=1e-6)
    assert portfolio.hours == len(rates)


def test_all_on_demand_is_the_sum_of_the_hours_plans():
    """Each hour at its own cheapest plan or better, within the rounding up of rates."""
    hours = [provision(demand().scaled_to(rate), POOLS).usd_per_hour for rate in DAY]

    portfolio = buy_portfolio(demand(), POOLS, DAY, discount=0.4)

    assert portfolio.on_demand_usd == pytest.approx(sum(hours), rel=0.03)
    assert portfolio.peak_rate == DAY.max()
    assert 0 < portfolio.saving < 0.4


def test_a_steady_demand_is_committed_whole():
    """Every hour alike: commit to the plan, and save the whole discount."""
    portfolio = buy_portfolio(demand(), POOLS, np.full(48, 15.0), discount=0.4)

    assert portfolio.saving == pytest.approx(0.4)
    assert all(line.on_demand_hours == line.spot_hours == 0 for line in portfolio.lines)


def test_one_busy_hour_a_week_is_not():
    """A commitment would be idle in all other hours, which cost it all the same."""
    rates = np.zeros(168)
    rates[5] = 30

    portfolio = buy_portfolio(demand(), POOLS, rates, discount=0.4)

    assert all(line.committed == 0 for line in portfolio.lines)
    assert portfolio.usd == portfolio.on_demand_usd
    assert portfolio.saving == 0


@pytest.mark.long
def test_a_larger_discount_and_a_spot_market_never_cost_more():
    """The same history: commitments grow cheaper, and nothing obliges to use spot."""
    small, large, spot = (
        buy_portfolio(demand(), POOLS, DAY, discount=discount, spot=prices)
        for discount, prices in ((0.2, {}), (0.5, {}), (0.2, {"A10G": 0.4, "H100": 2.5}))
    )

    assert large.usd < small.usd
    assert spot.usd < small.usd
    assert any(line.spot_hours for line in spot.lines)
    assert not any(line.spot_hours for line in small.lines)


def test_backends_of_several_gpus_share_a_type():
    """Pools of one GPU type draw on the same commitment, counted in GPUs."""
    pools = (pool("A100-80G", 3.4), pool("A100-80G", 3.4, gpus=2, name="pair"))
    dearer = (pools[0], replace(pools[1], usd_per_hour=9.0))

    portfolio = buy_portfolio(demand(), pools, DAY, discount=0.4)
    apart = buy_portfolio(demand(), dearer, DAY, discount=0.4)

    assert [line.gpu for line in portfolio.lines] == ["A100-80G"]
    assert [line.gpu for line in apart.lines] == ["A100-80G", "pair"]


def test_what_is_reserved_today_does_not_bias_the_answer():
    """A portfolio is decided as if nothing were bought yet."""
    now = (POOLS[0], POOLS[1], replace(POOLS[2], reserved=3))

    portfolios = [buy_portfolio(demand(), pools, DAY, discount=0.4) for pools in (POOLS, now)]

    assert portfolios[0] == portfolios[1]


def test_what_no_fleet_can_serve_is_told():
    """The share of the busiest hour, and no single type claims to do it."""
    portfolio = buy_portfolio(demand(tpot_s=0.001), POOLS, DAY[:3], discount=0.4)

    assert portfolio.unserved_share == pytest.approx(1.0)
    assert portfolio.single is None
    assert portfolio.single_saving is None


@pytest.mark.parametrize(
    ("rates", "options", "words"),
    [
        ([], {}, "hourly rates"), ([0.0], {}, "hourly rates"), ([-1.0, 2], {}, "hourly rates"),
        ([float("nan"), 2], {}, "hourly rates"), ([1.0], {"discount": 1.5}, "discount"),
        ([1.0], {"discount": float("nan")}, "discount"), ([1.0], {"spot_share": -1}, "spot share"),
        ([1.0], {"spot": {"TPU": 1.0}}, "TPU"), ([1.0], {"spot": {"H100": -1.0}}, "H100"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(rates: list[float], options: dict[str, Any], words: str):
    """Each with what is wrong."""
    with pytest.raises(InvalidValue, match=words):
        buy_portfolio(demand(), POOLS, np.array(rates), **{"discount": 0.4, **options})


def test_an_hour_has_its_highest_rate(tmp_path: Path):
    """Readings at any interval; an hour without one has the last before it; columns are named."""
    file = tmp_path / "rates.csv"
    file.write_text("other,t_s,requests_per_s\nx,100,3\nx,1900,7\n,3699,5\n,3700,1\nx,12000,2\n")

    assert read_hourly_rates(file).tolist() == [7, 1, 1, 2]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", ":1: the header lacks t_s, requests_per_s"), ("t_s,x\n1,2\n", ":1: the header lacks"),
        ("t_s,requests_per_s\n", ":2: no rates"), ("t_s,requests_per_s\n0,1\n0,x\n", ":3: "),
        ("t_s,requests_per_s\n0,1\n0,2\n", ":3: t_s 0 is not after"),
        ("t_s,requests_per_s\n0,-1\n", ":2: requests_per_s must"),
        ("t_s,requests_per_s\n0,nan\n", ":2: requests_per_s must"),
        ("t_s,requests_per_s\n0\n", ":2: requests_per_s is not a number"),
        ("t_s,requests_per_s\n1700000000,1\n9e15,1\n", ":3: t_s 9e15 is 2.85e+08 years after"),
        ("t_s,requests_per_s\n0,1\n9,2e6\n", ":3: requests_per_s 2e6 is more than any fleet"),
    ],
)  # fmt: skip
def test_a_bad_history_names_its_line(tmp_path: Path, text: str, where: str):
    """The first line that is wrong, and why."""
    file = tmp_path / "rates.csv"
    file.write_text(text)

    with pytest.raises(InvalidFile) as caught:
        read_hourly_rates(file)

    assert str(caught.value).startswith(f"{file}{where}")


def test_a_history_that_is_not_there_is_told(tmp_path: Path):
    """The file by its name."""
    with pytest.raises(InvalidFile, match="absent"):
        read_hourly_rates(tmp_path / "absent.csv")
