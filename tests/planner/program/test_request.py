"""A plan asked for as one value."""

import pickle

import numpy as np
import pytest

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.model.buckets import Buckets, SloClass
from planner.model.pool import Pool
from planner.program.limits import Limits
from planner.program.request import Objective, PlanRequest
from planner.program.solve import assign, provision, solve_request
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

SPEC = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu="H100", model="Llama-3-8B")
POOLS = (Pool(name="h", model="m", profile=profiles.build(SPEC), usd_per_hour=7.0),)
BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=2, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 512, 8192), output_edges=(1, 128, 2048)),
)
DEMAND = demand_from_samples(
    BUCKETS, np.array([0, 1, 2]), np.array([100.0, 100, 2000]), np.array([50.0, 500, 20]),
    duration_s=1, dispersion=(1.5,),
).scaled_to(30)  # fmt: skip
LIMITS = Limits(survive=1)


def request(objective: Objective) -> PlanRequest:
    return PlanRequest(objective=objective, demand=DEMAND, pools=POOLS, running=(3,), limits=LIMITS)


def test_a_request_gets_the_plan_of_its_objective():
    """Provision keeps the limits; assign takes the running fleet."""
    assert solve_request(request("provision")).plan_id == provision(DEMAND, POOLS, LIMITS).plan_id
    assert solve_request(request("assign")).plan_id == assign(DEMAND, POOLS, (3,)).plan_id
    assert solve_request(request("assign")).backends == (3,)


@pytest.mark.parametrize("objective", ["provision", "assign"])
def test_a_request_travels_between_processes(objective: Objective):
    """Pickled and unpickled it asks for the same plan."""
    sent = pickle.loads(pickle.dumps(request(objective)))

    assert solve_request(sent).plan_id == solve_request(request(objective)).plan_id
