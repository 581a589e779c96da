"""Why a request goes where it does: the real router's decision, and why each other lost."""

from dataclasses import replace

import numpy as np
import pytest

from gateway.explanation.explanation import asked, explained
from gateway.explanation.fleet_copy import copied
from gateway.explanation.standpoint import Standpoint
from gateway.overview.fleet_state import states
from gateway.routing.backend import Lease
from gateway.routing.endpoints import CHAT
from gateway.routing.estimate import Estimate
from gateway.routing.llm_request import LlmRequest
from gateway.routing.membership import LEAVING, draining
from gateway.routing.prefix_trail import PrefixTrail
from gateway.routing.pressure import PROMPT
from gateway.routing.router import Router

MODEL = "llama-3-8b"
NOW_S = 100.0
REQUEST = LlmRequest(
    endpoint=CHAT, model=MODEL, stream=True, prompt_bytes=1200, prompt_tokens=None, max_tokens=None
)


def size(inputs=300, outputs=120, p90=None, **fields):
    return Estimate(
        model=MODEL, input_tokens=inputs, output_tokens=outputs, output_p90=p90 or outputs, **fields
    )


@pytest.fixture
def at(plan, table, pools, fleet):
    """A function that makes the standpoint of a fleet as it is now."""

    def make(found=None, **changes):
        found = found or fleet
        return replace(
            Standpoint(
                plan=plan, table=table, fleet=copied(found, NOW_S), pools=pools,
                states=states(found, NOW_S, {}), queued=0, now_s=NOW_S,
            ),
            **changes,
        )  # fmt: skip

    return make


def told(at, estimate):
    return explained(asked(REQUEST, estimate, at), at)


def pool_rows(answer):
    return {row["pool"]: row for row in answer["pools"]}


def backend_rows(answer):
    return {one["name"]: one for row in answer["pools"] for one in row["backends"]}


def fill(backend, load, pending_s=0.0, memory=0.0):
    """Hold a request that takes so much of a backend."""
    return Lease(
        backend, own=0, slots=(load,), prefill_s=pending_s, bucket=0, plan_id="p",
        decision="planned", memory=memory,
    )  # fmt: skip


def state(fleet):
    return [
        (b.name, b.in_flight, list(b.loads), list(b.present), b.pending_s, b.memory)
        for b in fleet.backends
    ]


@pytest.mark.parametrize("seed", range(12))
def test_the_decision_is_that_of_the_router(seed, at, fleet, table, plan):
    """In any state of the fleet, at each turn; and nothing of the fleet changes by the question."""
    rng = np.random.default_rng(seed)
    leases = [
        fill(backend, float(rng.uniform(0, 1.1)), float(rng.uniform(0, 0.5)))
        for backend in fleet.backends
        if rng.random() < 0.8
    ]
    for backend in fleet.backends:
        if rng.random() < 0.15:
            backend.probed(False)
    before = state(fleet)
    estimate = size(int(rng.integers(20, 1900)), int(rng.integers(10, 400)))

    standing = at()
    answer = told(standing, estimate)

    assert state(fleet) == before
    bucket = answer["believed"]["bucket"]
    for turn in answer["turns"]:
        number = table.pools.index(turn["turn"]) if turn["turn"] is not None else None
        forced = table if number is None else standing.at_turn(bucket, number)
        router = Router(forced, fleet)
        slack_s = PROMPT * router.allowed_s(bucket)
        lease = router.route(estimate, now_s=NOW_S, bucket=bucket, slack_s=slack_s)
        where = None if lease is None else (lease.backend.name, lease.decision)
        said = None if turn["backend"] is None else (turn["backend"], turn["decision"])
        assert said == where
        if lease is not None:
            lease.release()
    assert leases or before


def test_shares_and_turns_are_those_of_the_plan(at, plan):
    """A bucket that is split has a decision for each of its pools."""
    bucket = max(range(plan.buckets.count), key=lambda b: sum(w > 0 for w in plan.weights[b]))
    inputs, outputs = plan.buckets.grid.centre(bucket)

    answer = told(at(), size(round(inputs), round(outputs)))

    shares = {name: share for b, name, share in plan.shares() if b == bucket}
    assert {turn["turn"]: turn["share"] for turn in answer["turns"]} == pytest.approx(shares)
    assert {n: r["share"] for n, r in pool_rows(answer).items() if r["share"]} == pytest.approx(
        shares
    )


def test_each_backend_says_why_it_lost(at, fleet, table):
    """Down, drained, asleep, fuller, beyond the plan."""
    pool = max(table.pools, key=lambda name: table.backends[table.pools.index(name)])
    number = table.pools.index(pool)
    slices = tuple(((number, 1.0),) for _ in table.slices)
    wide = replace(table, slices=slices, backends=tuple(3 if n == number else 0 for n in range(3)))
    first, second, third = fleet.pool(pool)
    lease = fill(second, 0.3)
    first.probed(False)
    lost = {n: r["lost"] for n, r in backend_rows(told(at(table=wide), size())).items()}
    assert lost[first.name].startswith("down: its last probe failed")
    assert "fuller than the one that was chosen" in lost[second.name]
    assert lost[third.name] == ""

    first.probed(True)
    first.asleep = True
    narrow = replace(wide, backends=tuple(1 if n == number else 0 for n in range(3)))
    lost = {n: r["lost"] for n, r in backend_rows(told(at(table=narrow), size())).items()}
    assert lost[first.name].startswith("asleep")
    assert lost[third.name].startswith("beyond the plan, which uses 1")
    assert lost[second.name] == ""

    fleet.apply(draining(fleet.membership, {second.name: LEAVING}))
    lost = {n: r["lost"] for n, r in backend_rows(told(at(table=wide), size())).items()}
    assert lost[second.name].startswith("draining: it ends soon")
    lease.release()


@pytest.mark.parametrize(
    ("hold", "why"),
    [
        ({"load": 1.5}, "no room: pressure 1."),
        ({"load": 0.1, "pending_s": 30.0}, "the first token would come too late: 30."),
        ({"load": 0.1, "memory": 1.2}, "its KV cache would be too full"),
    ],
    ids=["load", "prefill", "memory"],
)
def test_a_full_backend_says_by_which_measure(at, fleet, hold, why):
    leases = [fill(backend, **hold) for backend in fleet.backends]

    answer = told(at(), size())

    used = [r for r in answer["pools"] if r["share"] > 0]
    assert all(turn["decision"] == "wait" for turn in answer["turns"])
    assert all("none of its backends has room" in row["lost"] for row in used)
    assert any(one["lost"].startswith(why) for row in used for one in row["backends"])
    for lease in leases:
        lease.release()


def test_a_pool_says_why_it_cannot(at, table, plan):
    """Its context, an ability, the promise, or the P90 of the answer."""
    short = replace(table, context=(500, 8192, 8192))
    row = pool_rows(told(at(table=short), size(300, 100, max_tokens=400)))["a10g"]
    assert row["lost"] == ("its context of 500 tokens is too short: prompt and answer may need 700")
    only = size()
    only.only = frozenset({"h100"})
    assert "an adapter, an ability" in pool_rows(told(at(), only))["a10g"]["lost"]

    infeasible = replace(table, feasible=tuple((False, True, True) for _ in table.feasible))
    row = pool_rows(told(at(table=infeasible), size()))["a10g"]
    assert row["lost"].startswith("the promise cannot hold for this size")

    spills = replace(
        table,
        slices=tuple(((1, 1.0),) for _ in table.slices),
        feasible=tuple(
            (plan.buckets.grid.bounds(b)[1][0] < 256, True, True) for b in range(len(table.slices))
        ),
    )
    row = pool_rows(told(at(table=spills), size(300, 100, p90=400)))["a10g"]
    assert "the promise would not hold if the answer had 400 tokens" in row["lost"]


def test_without_a_promise_and_without_a_backend(at, fleet):
    """A request of the class best-effort has no turn; where nothing is up, nothing is chosen."""
    answer = told(at(), size(slo_class="best-effort"))
    assert answer["promise"] is None
    [turn] = answer["turns"]
    assert (turn["turn"], turn["decision"]) == (None, "best-effort")

    for backend in fleet.backends:
        backend.probed(False)
    answer = told(at(), size())
    assert {turn["decision"] for turn in answer["turns"]} == {"unavailable"}
    assert all("up" in row["lost"] for row in answer["pools"])


def test_where_a_prompt_has_been_decides_and_is_said(at, fleet, table):
    """A backend that has most of a long prompt is preferred to a freer one, within bounds."""
    bucket = at().table.buckets.grid.cell(1900, 60)
    pool = table.pools[max(table.slices[bucket], key=lambda piece: piece[1])[0]]
    number = table.pools.index(pool)
    wide = replace(
        table,
        slices=tuple(((number, 1.0),) for _ in table.slices),
        backends=tuple(3 if n == number else 0 for n in range(3)),
    )
    freer, home, _ = fleet.pool(pool)
    lease = fill(home, 0.05)
    estimate = size(1900, 60)
    estimate.trail = PrefixTrail([1], [1000], 1000)
    estimate.trail.shares = {home.name: 0.9}
    estimate.trail.looked_s = NOW_S

    answer = told(at(table=wide), estimate)

    [turn] = answer["turns"]
    assert (turn["backend"], turn["decision"]) == (home.name, "affinity")
    rows = backend_rows(answer)
    assert rows[home.name]["known"] == 0.9
    assert "has had the beginning of the prompt" in rows[freer.name]["lost"]
    lease.release()


def test_a_copy_is_as_its_original(fleet):
    """Whatever a router looks at; also of one that is cold, full or rests."""
    full, cold, resting, other = fleet.backends[:4]
    full.refused(NOW_S)
    cold.warm_up(NOW_S - 5.0, 20.0)
    for _ in range(3):
        resting.breaker.failed(NOW_S, unreachable=True, may_open=True)
    lease = fill(other, 0.4, 0.2, 0.1)

    copy = {backend.name: backend for backend in copied(fleet, NOW_S).backends}

    assert copy[full.name].full(NOW_S)
    assert copy[cold.name].cold(NOW_S) == pytest.approx(cold.cold(NOW_S))
    assert not copy[resting.name].live(NOW_S)
    assert state(copied(fleet, NOW_S)) == state(fleet)
    lease.release()
    assert copy[other.name].in_flight == 1, "it does not follow"
