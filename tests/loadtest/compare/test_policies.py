"""The policies to compare with: each does what its authors say, and nothing is kept by mistake."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from loadtest.compare.policies import CELLS, POLICIES, PULL_LIMIT, SimulationCase
from planner.engine import profiles
from planner.proof.simulate import simulate
from planner.proof.timeline import FirstCome
from planner.slo import Slo
from planner.traffic.trace import Trace

A10G, A100, H100 = (
    profiles.find_profile(f"llama-3-8b/{gpu}", Path()) for gpu in ("a10g", "a100-80g", "h100")
)
SLO = Slo(ttft_s=2.0, tpot_s=0.1)
SHORT, LONG = (100, 20), (1900, 480)


def make_case(engines, sizes, slo=SLO):
    """One request of each size, a second apart."""
    inputs, outputs = np.array(sizes, dtype=float).T
    trace = Trace(
        arrival_s=np.arange(len(sizes), dtype=float),
        input_tokens=inputs,
        output_tokens=outputs,
        key=("",) * len(sizes),
    )
    return SimulationCase(trace=trace, engines=engines, slo=slo)


def n_star(profile, size):
    """The largest steady batch of requests of one size within the SLO."""
    inputs, outputs = np.array([size], dtype=float).T
    return float(profile.capacity(inputs, outputs, SLO).n_star[0])


def make_policy(name, case, seed=1):
    return POLICIES[name](case, np.random.default_rng(seed))


def place(policy, count, *, keep=False):
    """Where the first `count` requests go, each released at once unless kept."""
    placements = []
    for request in range(count):
        placement = policy.route(request, 0.0)
        placements.append(placement)
        if not keep:
            placement.release()
    return [placement.backend for placement in placements], placements


def shares(policy, count, backends):
    return np.bincount(place(policy, count)[0], minlength=backends) / count


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_serves_every_request_of_a_light_load(name):
    """No policy loses a request, and the same seed gives the same backends."""
    rng = np.random.default_rng(2)
    sizes = [(int(i), int(o)) for i, o in zip(rng.integers(10, 900, 200), rng.integers(2, 200, 200),
                                              strict=True)]  # fmt: skip
    case = make_case((A10G, A100, A100, H100), sizes)

    runs = []
    for _ in range(2):
        policy = make_policy(name, case)
        runs.append(
            simulate(
                case.trace,
                case.engines,
                FirstCome(policy.route, policy.patience_s),
                on_finished=policy.on_finished,
            )
        )

    assert (runs[0].backend >= 0).all()
    assert runs[0].backend.tolist() == runs[1].backend.tolist()
    assert runs[0].attainment(SLO) > 0.95


def test_random_is_even():
    """Equal chances, whatever the GPU."""
    case = make_case((A10G, A100, H100, H100), [SHORT] * 4000)

    assert shares(make_policy("random", case), 4000, 4) == pytest.approx([0.25] * 4, abs=0.03)


def test_round_robin_goes_around():
    """One after the other, in order."""
    case = make_case((A10G, A100, H100), [SHORT] * 7)

    assert place(make_policy("round-robin", case), 7)[0] == [0, 1, 2, 0, 1, 2, 0]


def test_least_request_counts_heads():
    """Kept requests spread evenly, however unequal the GPUs and the requests."""
    case = make_case((A10G, A100, H100), [SHORT, LONG] * 6)

    backends, _ = place(make_policy("least-request", case), 12, keep=True)

    assert Counter(backends) == {0: 4, 1: 4, 2: 4}


def test_power_of_two_shuns_only_the_busier_of_two():
    """With one backend busy and three idle, it gets a request only if drawn twice: never."""
    case = make_case((A100,) * 4, [SHORT] * 3001)
    policy = make_policy("power-of-two", case)
    busy = policy.route(0, 0.0).backend

    counts = Counter(place(policy, 3000)[0])

    assert counts[busy] == 0
    assert all(abs(counts[k] / 3000 - 1 / 3) < 0.04 for k in range(4) if k != busy)


def test_least_load_weighs_sizes():
    """After a long request the other backend gets short ones until they weigh as much."""
    case = make_case((A100, A100), [LONG] + [SHORT] * 9)
    long, short = (1 / n_star(A100, size) for size in (LONG, SHORT))

    backends, _ = place(make_policy("least-load", case), 10, keep=True)

    weigh = int(np.ceil(long / short))
    assert 1 < weigh < 8
    assert backends[: weigh + 2] == [0] + [1] * weigh + [0]


def test_least_load_avoids_what_cannot_hold_the_slo():
    """A size that only one GPU type serves within its SLO goes there even when the other idles."""
    tight = Slo(ttft_s=2.0, tpot_s=0.02)
    case = make_case((A10G, H100), [LONG] * 5, slo=tight)
    size = np.array([LONG[0]]), np.array([LONG[1]])
    assert A10G.capacity(*size, tight).rate[0] == 0 < H100.capacity(*size, tight).rate[0]

    assert place(make_policy("least-load", case), 5, keep=True)[0] == [1] * 5


def test_melange_draws_by_throughput_at_the_corner():
    """Shares are the largest throughputs at the upper corner of the bucket of the mean output."""
    case = make_case((A10G, A100, H100), [SHORT] + [(90, 240)] * 6000)
    policy = make_policy("melange", case)
    policy.on_finished(1, 0.0)  # 240 tokens out of 90: the bucket up to (100, 250)
    corner = np.array([100.0]), np.array([250.0])
    rates = np.array([gpu.capacity(*corner, SLO).rate[0] for gpu in case.engines])

    assert shares(policy, 6000, 3) == pytest.approx(rates / rates.sum(), abs=0.02)


def test_melange_estimates_the_mean_of_the_input_bucket():
    """The running mean of an input bucket decides, not the request's own output nor other inputs'
    outputs."""
    sizes = [(90, 2000), (90, 2), (1500, 2)]
    case = make_case((A10G, H100), sizes + [(90, 2)] * 4000)
    policy = make_policy("melange", case)
    for request in (0, 1, *[2] * 50):
        policy.on_finished(request, 0.0)  # mean 1001: the bucket up to 2,000
    corner = np.array([100.0]), np.array([2000.0])
    rates = np.array([gpu.capacity(*corner, SLO).rate[0] for gpu in case.engines])

    backends = [policy.route(request, 0.0).backend for request in range(3, 4003)]

    assert np.bincount(backends) / 4000 == pytest.approx(rates / rates.sum(), abs=0.02)


def pulled(load):
    """How many requests of this load a backend pulls, added up one by one as a policy does."""
    count, total = 0, load
    while total <= PULL_LIMIT:
        count, total = count + 1, total + load
    return count


def test_aibrix_fills_the_fastest_type_first_and_then_waits():
    """Up to the cap on the fastest GPUs, then on the next, then nowhere until something ends."""
    size = CELLS.centre(CELLS.cell(*LONG))
    case = make_case((A10G, H100), [size] * 400)
    policy = make_policy("aibrix-slo", case)
    policy.on_finished(0, 0.0)  # the next draws are of a known length
    placed = []

    for request in range(400):
        placement = policy.route(request, 0.0)
        if placement is None:
            break
        placed.append(placement)

    caps = [pulled(1 / n_star(gpu, size)) for gpu in (H100, A10G)]
    assert [placement.backend for placement in placed] == [1] * caps[0] + [0] * caps[1]
    assert policy.route(len(placed), 0.0) is None
    placed[0].release()
    assert policy.route(len(placed), 0.0).backend == 1
