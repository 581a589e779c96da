"""Pools and spot terms are checked where they are made."""

from typing import Any

import pytest

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.errors import InvalidValue
from planner.model.pool import Pool, Spot

PROFILE = profiles.build(
    ProfileFile(format="cuvee-profile/1", origin="analytic", gpu="H100", model="Llama-3-8B")
)


@pytest.mark.parametrize(
    ("field", "value"),
    [("usd_per_hour", -1.0), ("usd_per_hour", float("nan")), ("min_backends", -1),
     ("max_backends", -1)],
)  # fmt: skip
def test_a_wrong_pool_names_itself_and_its_field(field: str, value: float):
    """The message says which pool and which field."""
    good: dict[str, Any] = {"name": "p", "model": "m", "profile": PROFILE, "usd_per_hour": 1.0}

    with pytest.raises(InvalidValue, match=f"pool p: .*{field}"):
        Pool(**(good | {field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [("preemptions_per_hour", -1.0), ("restart_s", float("nan")), ("confidence", 1.0),
     ("most_share", 1.1), ("backfill_s", -1.0), ("backfill_usd_per_hour", float("inf"))],
)  # fmt: skip
def test_a_wrong_spot_names_its_field(field: str, value: float):
    """The message says which field."""
    good = {"preemptions_per_hour": 0.1, "restart_s": 300.0}

    with pytest.raises(InvalidValue, match=f"spot: {field}"):
        Spot(**(good | {field: value}))


def test_what_is_paid_for_is_not_taken_away():
    """A pool is reserved or spot, not both, and reserves no negative number."""
    good: dict[str, Any] = {"name": "p", "model": "m", "profile": PROFILE, "usd_per_hour": 1.0}

    for wrong in ({"reserved": -1}, {"reserved": 1, "spot": Spot(preemptions_per_hour=1,
                                                               restart_s=60)}):  # fmt: skip
        with pytest.raises(InvalidValue, match="pool p: reserved"):
            Pool(**(good | wrong))
