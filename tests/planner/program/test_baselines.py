"""Mélange's and AIBrix's formulations: what they reproduce, and that ours is never above them."""

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.errors import InvalidFile, InvalidValue
from planner.model.pool import Pool
from planner.program import baselines
from planner.program.baselines import Instance
from planner.program.published import read_published
from planner.slo import Slo

ARENA = Path(__file__).resolve().parents[3] / "configs" / "melange" / "arena.yaml"
PAPER = read_published(ARENA)
RATES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def tiny(seed: int, buckets: int = 2, gpus: int = 2) -> Instance:
    random = np.random.default_rng(seed)
    return Instance(
        gpus=tuple(f"g{n}" for n in range(gpus)),
        usd=random.uniform(0.5, 8, gpus).round(2),
        rate=random.uniform(0.2, 4, buckets),
        tput=random.uniform(0.3, 6, (buckets, gpus)),
    )


@pytest.mark.parametrize(
    ("gpu", "counts"),
    [
        ("L4", (3, 5, 9, 17, 33, 65)),
        ("A10G", (2, 3, 5, 9, 18, 35)),
        ("A100", (1, 1, 2, 3, 5, 9)),
        ("H100", (1, 1, 1, 2, 4, 7)),
    ],
)
def test_the_papers_single_types_reproduce(gpu: str, counts: tuple[int, ...]):
    """The February profile gives L4 at all six rates of Table 3, A100 and H100 at five."""
    fleets = [baselines.single_type(PAPER.instance(rate), gpu) for rate in RATES]

    ours = tuple(sum(fleet.counts) for fleet in fleets if fleet)
    agree = sum(a == b for a, b in zip(ours, PAPER.reported.single_types[gpu], strict=True))
    assert ours == counts
    assert agree >= {"L4": 6, "A100": 5, "H100": 5, "A10G": 2}[gpu]


@pytest.mark.parametrize(
    ("rate", "counts"),
    list(
        zip(
            RATES,
            [(1, 1, 0, 0), (1, 2, 0, 0), (1, 0, 1, 0), (0, 1, 2, 0), (0, 5, 3, 0), (0, 6, 7, 0)],
            strict=True,
        )
    ),
)
def test_the_optimum_is_never_above_melange_on_the_papers_instance(
    rate: float, counts: tuple[int, ...]
):
    """At every rate of the paper, at the same loads, with a gap proven below 0.1 %."""
    instance = PAPER.instance(rate)

    theirs, ours = baselines.melange(instance), baselines.optimum(instance)

    assert theirs.counts == counts
    assert ours.usd_per_hour <= theirs.usd_per_hour + 1e-9
    assert ours.gap is not None
    assert ours.gap <= 1e-3


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_allocations_serve_every_bucket_within_their_counts(seed: int):
    """Shares sum to 1, loads fit the counts, and the cost is that of the counts."""
    instance = tiny(seed, buckets=4, gpus=3)

    for allocation in (
        baselines.melange(instance, slices=2),
        baselines.aibrix(instance, slices=2),
        baselines.optimum(instance),
    ):
        load = (allocation.shares * instance.load).sum(axis=0)
        assert allocation.shares.sum(axis=1) == pytest.approx(1, abs=1e-6)
        assert np.all(load <= np.array(allocation.counts) + 1e-5)
        assert allocation.usd_per_hour == pytest.approx(np.array(allocation.counts) @ instance.usd)


@pytest.mark.parametrize("seed", range(5))
def test_melange_is_the_best_of_all_ways_to_deal_slices(seed: int):
    """Two buckets of two slices, two types: brute force over 3 × 3 deals finds no cheaper fleet."""
    instance = tiny(seed)
    deals = [np.array([i, j]) / 2 for i in range(3) for j in range(3)]
    loads = [(np.stack([deal, 1 - deal], axis=1) * instance.load).sum(axis=0) for deal in deals]
    forced = min(float(np.ceil(load - 1e-9) @ instance.usd) for load in loads)

    assert baselines.melange(instance, slices=2).usd_per_hour == pytest.approx(forced)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_by_type_is_never_cheaper(seed: int):
    """AIBrix pays for the part of a GPU that each type is rounded up by."""
    instance = tiny(seed, buckets=3, gpus=3)

    rounded = baselines.aibrix(instance, slices=2)

    assert rounded.usd_per_hour >= baselines.optimum(instance).usd_per_hour - 1e-9


def test_a_type_that_cannot_serve_a_bucket_has_no_fleet_of_its_own():
    """A single type without throughput for a size with demand is no answer; the mix still is."""
    instance = Instance(
        gpus=("small", "large"),
        usd=np.array([1.0, 4.0]),
        rate=np.array([2.0, 1.0]),
        tput=np.array([[1.0, 2.0], [0.0, 1.0]]),
    )

    assert baselines.single_type(instance, "small") is None
    large = baselines.single_type(instance, "large")
    assert large is not None
    assert large.counts == (0, 2)
    assert baselines.melange(instance).shares[1].tolist() == [0, 1]
    assert baselines.optimum(instance).shares[1].tolist() == [0, 1]


def test_buckets_without_demand_cost_nothing():
    """A size without requests needs no GPU, even if none could serve it."""
    instance = replace(tiny(1), rate=np.array([1.0, 0.0]), tput=np.array([[2.0, 1.0], [0, 0]]))

    for allocation in (baselines.melange(instance), baselines.optimum(instance)):
        assert sum(allocation.counts) == 1
        assert allocation.shares[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": np.array([1.0, np.nan])}, "finite"),
        ({"usd": np.array([-1.0, 1.0])}, "not negative"),
        ({"usd": np.array([1.0])}, "usd"),
        ({"tput": np.array([[1.0, 1.0], [0.0, 0.0]])}, r"upper corner of buckets \[1\]"),
    ],
)
def test_impossible_instances_are_refused(change: dict[str, Any], message: str):
    """NaN, negative prices, wrong shapes and sizes that no GPU serves are named."""
    with pytest.raises(InvalidValue, match=message):
        replace(tiny(0), **change)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate: float):
    """A mix can only be scaled to a positive, finite rate."""
    with pytest.raises(InvalidValue, match="rate"):
        tiny(0).at(rate)


def test_pools_are_seen_at_the_upper_corner_under_tpot_alone():
    """Throughput of a cell is that of its largest size; TTFT plays no part."""
    spec = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu="H100", model="Llama-3-8B")
    pool = Pool(name="h100", model="m", profile=profiles.build(spec), usd_per_hour=6.0)
    rate = np.zeros(baselines.GRID.cells)
    cell = baselines.GRID.cell(900, 180)
    rate[cell] = 5.0
    slo = Slo(ttft_s=1e-3, tpot_s=0.06)

    instance = baselines.instance_of_pools((pool,), slo, rate)

    corner = pool.profile.capacity(np.array([1000.0]), np.array([250.0]), replace(slo, ttft_s=1e9))
    assert instance.tput[cell] == pytest.approx(corner.rate)
    assert baselines.melange(instance).counts == (ceil(5 / corner.rate[0]),)


def test_the_ranges_are_those_of_the_paper():
    """25 tokens belong to (0, 25], 26 to (25, 100]."""
    grid = baselines.GRID

    assert grid.cell(25, 25) == 0
    assert grid.cell(26, 25) == len(baselines.OUTPUT_TOPS)
    assert grid.cell(25, 26) == 1
    assert grid.cells == 60


def test_a_table_of_the_wrong_shape_is_named(tmp_path: Path):
    """A missing row is an error with file and key, not a shifted table."""
    path = tmp_path / "short.yaml"
    path.write_text(ARENA.read_text().replace("  - [278, 335, 561, 558, 179, 1]\n", ""))

    with pytest.raises(InvalidFile, match=r"short\.yaml: requests: must be 6 rows of 6"):
        read_published(path)


@pytest.mark.parametrize("text", ["format: other", "format: cuvee-instance/1\nsource: x"])
def test_files_that_are_no_instances_are_refused(tmp_path: Path, text: str):
    """Wrong format or missing keys: one line with the file's name."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)

    with pytest.raises(InvalidFile, match=r"bad\.yaml: "):
        read_published(path)
