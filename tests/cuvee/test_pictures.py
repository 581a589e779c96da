"""The pictures of a plan: files that open, and clear words where there are none."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuvee.pictures import NoPicture, draw
from planner.costs.curves import CostCurve
from planner.costs.explain import Explanation, explain
from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(1, 512, 8192), output_edges=(1, 128, 2048))
SPEC = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu="H100", model="Llama-3-8B")
POOLS = (Pool(name="h", model="m", profile=profiles.build(SPEC), usd_per_hour=7.0),)
CURVES = (
    CostCurve(name="mix", x=(1.0, 2.0), usd_per_hour=(None, 7.0)),
    CostCurve(name="H100", x=(1.0, 2.0), usd_per_hour=(None, 7.0)),
    CostCurve(name="L4", x=(1.0, 2.0), usd_per_hour=(None, None)),
)


GIVEN: dict[str, Any] = {"gpus": {"h": "H100"}, "over_rate": CURVES, "over_tpot": CURVES}


def plan_at(rate: float, tpot_s: float = 0.1) -> tuple[Plan, Explanation]:
    buckets = Buckets(classes=(SloClass(model="m", slo=Slo(ttft_s=2, tpot_s=tpot_s)),), grid=GRID)
    sizes = (np.array([0, 1, 2]), np.array([100.0, 100, 2000]), np.array([50.0, 500, 20]))
    demand = demand_from_samples(buckets, *sizes, duration_s=1, dispersion=(1.5,)).scaled_to(rate)
    plan = provision(demand, POOLS)
    return plan, explain(plan, demand, POOLS)


@pytest.mark.parametrize(("name", "start"), [("plan.png", b"\x89PNG"), ("plan.svg", b"<?xml")])
def test_a_picture_is_what_its_name_says(tmp_path: Path, name: str, start: bytes):
    """PNG or SVG by the ending."""
    draw(*plan_at(5.0), tmp_path / name, **GIVEN)

    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_plan_that_serves_nothing_can_be_drawn(tmp_path: Path):
    """No backend, no cost and no curve: still a picture."""
    nothing = tuple(CostCurve(name=c.name, x=c.x, usd_per_hour=(None, None)) for c in CURVES)

    draw(
        *plan_at(5.0, tpot_s=0.001),
        tmp_path / "a.png",
        gpus={},
        over_rate=nothing,
        over_tpot=nothing,
    )

    assert (tmp_path / "a.png").stat().st_size > 0


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path):
    """An OSError with the path; an ending that says nothing is a ValueError."""
    with pytest.raises(OSError, match="missing"):
        draw(*plan_at(5.0), tmp_path / "missing" / "a.png", **GIVEN)
    with pytest.raises(ValueError, match="txt"):
        draw(*plan_at(5.0), tmp_path / "a.txt", **GIVEN)


def test_without_matplotlib_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is an extra: the error says how to get it, by the name of a package that exists."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(NoPicture, match=r"pip install matplotlib$"):
        draw(*plan_at(5.0), tmp_path / "a.png", **GIVEN)
