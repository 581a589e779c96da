"""The cheapest certified fleet where there is no fleet yet."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.rehearsal.rental import Rental, RentalRequest, cheapest_rental
from planner import shipped
from planner.engine import catalogue
from planner.errors import InvalidValue
from planner.slo import Slo
from planner.traffic.trace import read_trace

CHAT = read_trace(shipped.workload("chat"))
USD = {"L4": 0.8, "A10G": 1.0, "A100-80G": 3.4, "H100": 6.9}


def make_request(**changes: Any) -> RentalRequest:
    usual = RentalRequest(
        model=catalogue.models()["Qwen3-8B"],
        slo=Slo(ttft_s=2, tpot_s=0.06),
        trace=CHAT,
        rate=4.0,
        usd=USD,
    )
    return replace(usual, **changes)


@pytest.fixture(scope="module")
def found() -> Rental:
    return cheapest_rental(make_request(), seeds=3, requests=500)


@pytest.mark.long
def test_the_fleet_is_certified_and_no_dearer_than_any_certified_type(found: Rental):
    """The saving is against the cheapest type that is certified for the same demand."""
    held = [one for one in found.alone if one.certificate is not None and one.certificate.holds]
    best = found.best_alone

    assert found.certificate.holds
    assert held
    assert best is not None
    assert best.plan.usd_per_hour == min(one.plan.usd_per_hour for one in held)
    assert found.plan.usd_per_hour <= best.plan.usd_per_hour
    assert found.saving == pytest.approx(1 - found.plan.usd_per_hour / best.plan.usd_per_hour)
    assert found.demand.total_rate == pytest.approx(4.0)


@pytest.mark.long
def test_every_type_that_holds_anything_is_listed(found: Rental):
    """Certified ones first; what was not played has the cost that it cannot be below."""
    assert {one.gpu for one in found.alone} <= set(USD)
    played = [one.certificate is not None for one in found.alone]
    assert played == sorted(played, reverse=True)
    for one in found.alone:
        if one.certificate is None:
            backends = one.lower_bound_usd_per_hour / USD[one.gpu]
            assert backends == pytest.approx(round(backends))
            assert one.played or one.lower_bound_usd_per_hour >= found.plan.usd_per_hour
    assert found.considered + len(found.left_out) == 4 * len(USD)


def test_a_fleet_of_one_type_is_that_type_s_fleet():
    """Where only one GPU type has a price, there is nothing to save."""
    found = cheapest_rental(make_request(usd={"H100": 6.9}), seeds=2, requests=200)

    assert [one.gpu for one in found.alone] == ["H100"]
    assert found.best_alone is not None
    assert found.best_alone.plan.usd_per_hour == found.plan.usd_per_hour
    assert found.saving == 0


@pytest.mark.long
def test_tokens_have_a_price_at_the_offered_load(found: Rental):
    """It is the bill over the tokens, and falls to that of full use."""
    cost = found.cost
    tokens = (cost.prompt_per_s + cost.output_per_s) * 3600 / 1e6

    assert cost.usd_per_million * tokens == pytest.approx(found.plan.usd_per_hour)
    assert cost.usd_per_million_full == pytest.approx(cost.usd_per_million * cost.utilisation)


def test_a_model_too_large_for_one_gpu_gets_several():
    """70 billion parameters do not fit on one H100."""
    large = make_request(
        model=catalogue.models()["Llama-3.1-70B"], usd={"H100": 6.9}, slo=Slo(ttft_s=3, tpot_s=0.1)
    )
    found = cheapest_rental(large, seeds=2, requests=200)

    used = [p for p, n in zip(found.pools, found.plan.backends, strict=True) if n]
    assert used
    assert min(pool.gpus for pool in used) > 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"slo": Slo(ttft_s=2, tpot_s=60)}, "tpot_s is in seconds"),
        ({"slo": Slo(ttft_s=2, tpot_s=1e-4)}, "no GPU with a price holds"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"usd": {}}, "no GPU with a price"),
    ],
)
def test_what_cannot_be_planned_is_one_line(changes, text):
    """Nothing is played for a request that no fleet could serve."""
    with pytest.raises(InvalidValue, match=text):
        cheapest_rental(make_request(**changes))
