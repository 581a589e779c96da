"""What changes from one plan to another, by their JSON."""

import json
from dataclasses import replace

import pytest

from planner.costs.plan_change import plan_change, plan_of, read_plan
from planner.errors import InvalidFile
from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Certificate, Plan
from planner.model.plan_json import plan_figures
from planner.sizes import Grid
from planner.slo import Slo

BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1.0, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 100, 1000), output_edges=(1, 100)),
)
CERTIFICATE = Certificate(
    attainment=0.995, low=0.99, high=1.0, worst=0.99, target=0.99, seeds=4, requests=100
)
PLAN = Plan(
    plan_id="one", objective="provision", buckets=BUCKETS, pools=("a", "b"), backends=(2, 1),
    weights=((1.0, 0.0), (0.25, 0.75)), rate=(3.0, 1.0), seconds=((1.0, 1.0),) * 2,
    slots=((0.1, 0.1),) * 2, load=(1.0, 0.5), tail=(0.1, 0.1), usd_per_hour=6.0,
    lower_bound_usd_per_hour=4.0, gap=0.0, solve_s=0.1,
)  # fmt: skip


def json_of(plan):
    return plan_of(json.loads(json.dumps(plan_figures(plan))))


def test_a_plan_does_not_differ_from_itself():
    change = plan_change(json_of(PLAN), json_of(PLAN))

    assert not change.changes
    assert change.moves == ()
    assert change.moved == 0


def test_backends_shares_and_bill_are_compared():
    """Requests that move are weighted by their rate; a bucket that gets a pool moves whole."""
    after = replace(
        PLAN, plan_id="two", backends=(1, 2), usd_per_hour=5.0, certificate=CERTIFICATE,
        weights=((0.5, 0.5), (0.25, 0.75)),
    )  # fmt: skip

    change = plan_change(json_of(PLAN), json_of(after))

    assert change.changes
    assert change.backends == {"a": (2, 1), "b": (1, 2)}
    assert change.moved == pytest.approx(0.5 * 3 / 4)
    assert change.moves is not None
    [move] = change.moves
    assert (move.what, move.before, move.after) == (
        "m in 1–100 out 1–100",
        {"a": 1},
        {"a": 0.5, "b": 0.5},
    )
    assert change.after.certificate is not None
    assert change.after.certificate.holds
    none = replace(PLAN, weights=((0.0, 0.0), (0.25, 0.75)))
    assert plan_change(json_of(none), json_of(PLAN)).moved == pytest.approx(0.75)


@pytest.mark.parametrize(("moved", "changes"), [(0.005, False), (0.02, True)])
def test_what_chance_moves_is_no_change(moved, changes):
    after = replace(PLAN, plan_id="two", weights=((1 - moved, moved), (0.25 - moved, 0.75 + moved)))

    assert plan_change(json_of(PLAN), json_of(after)).changes is changes


def test_sizes_that_are_cut_otherwise_do_not_compare():
    grid = Grid(input_edges=(1, 200, 1000), output_edges=(1, 100))
    after = replace(PLAN, buckets=replace(BUCKETS, grid=grid))

    change = plan_change(json_of(PLAN), json_of(after))

    assert change.moves is None
    assert change.changes


FIGURES = plan_figures(PLAN)
NO_PLANS = (
    "", "[]", "{}", '{"plan_id": 3}', "\x00", json.dumps(FIGURES | {"rate": []}),
    json.dumps(FIGURES | {"pools": ["a"]}),
)  # fmt: skip


@pytest.mark.parametrize("text", NO_PLANS)
def test_what_is_no_plan_is_refused(tmp_path, text):
    """With the name of the file."""
    file = tmp_path / "plan.json"
    file.write_text(text)

    with pytest.raises(InvalidFile, match=r"plan\.json: "):
        read_plan(file)
    with pytest.raises(InvalidFile, match="No such file"):
        read_plan(tmp_path / "missing.json")
