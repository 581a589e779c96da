"""The decision: exact shares, least pressure, spill, no room, and leases that leave no trace."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ClassNotFound, ModelNotFound, Unavailable
from gateway.routing.backend import FULL_S
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable, compile_table
from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo

SHORT, LONG = 0, 1  # buckets: outputs under and over 100 tokens
TTFT_S = 1.0
BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=TTFT_S, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 1000), output_edges=(1, 100, 1000)),
)


def make_table(
    weights, *, slots=None, feasible=None, backends=None, prefill_s=0.0, context=None, plan_id="p1"
):
    """A table of one or more pools; `weights` and `feasible` are the same in both buckets unless
    they are a pair of rows."""
    rows = weights if isinstance(weights[0], tuple) else (weights, weights)
    count = len(rows[0])
    feasible = feasible or ((True,) * count,) * 2
    return RoutingTable(
        plan_id=plan_id,
        buckets=BUCKETS,
        pools=tuple("abcdefgh"[:count]),
        backends=backends or (8,) * count,
        slices=tuple(tuple((p, w) for p, w in enumerate(row) if w > 0) for row in rows),
        order=(tuple(range(count)),) * 2,
        feasible=feasible,
        slots=(tuple((slot,) for slot in slots or (0.1,) * count),) * 2,
        own=(0, 0),
        siblings=((0,), (0,)),
        guards=((True,),) * count,
        prefill_s=(prefill_s,) * count,
        context=context or (4096,) * count,
        kv_tokens=(10**9,) * count,
        backlog_s=(TTFT_S,),
        allowed_s=(TTFT_S,),
        entry_s=(0.0,),
        fill_s=(10.0,) * count,
        strictest=(0,) * count,
        ranks=(0,),
    )


def make_router(table, per_pool=2):
    fleet = Fleet.of({p: tuple(f"http://{p}{n}" for n in range(per_pool)) for p in table.pools})
    return Router(table, fleet)


def estimate(outputs=10, p90=None, inputs=10, model="m", prompts=1, width=1):
    return Estimate(
        model=model, input_tokens=inputs, output_tokens=outputs, output_p90=p90 or outputs,
        prompts=prompts, width=width,
    )  # fmt: skip


def fill(router, pool, load):
    """Leases that put this load on every backend of a pool, as a plan of one slot would."""
    table = make_table(
        tuple(1.0 if name == pool else 0.0 for name in router.table.pools),
        slots=(load,) * len(router.table.pools),
    )
    inner = Router(table, router.fleet)
    return [inner.route(estimate(), now_s=0.0) for _ in router.fleet.pool(pool)]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any))
def test_realised_shares_are_the_weights(parts):
    """After N requests every pool has had exactly its N·w."""
    total = sum(parts)
    router = make_router(make_table(tuple(part / total for part in parts)))
    counts = dict.fromkeys(router.table.pools, 0)

    for _ in range(total):
        with router.route(estimate(), now_s=0.0) as lease:
            counts[lease.backend.pool] += 1
            assert lease.decision == "planned"

    assert tuple(counts.values()) == tuple(parts)


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5), st.integers(1, 300))
def test_shares_are_never_a_request_off(parts, requests):
    """At no moment has a pool had one request more than its share."""
    weights = tuple(part / sum(parts) for part in parts)
    router = make_router(make_table(weights))
    counts = dict.fromkeys(router.table.pools, 0)

    for n in range(1, requests + 1):
        with router.route(estimate(), now_s=0.0) as lease:
            counts[lease.backend.pool] += 1
        assert all(c < n * w + 1 for c, w in zip(counts.values(), weights, strict=True))


def test_buckets_take_turns_by_themselves():
    """The shares of one bucket do not depend on how another is interleaved with it."""
    router = make_router(make_table(((0.5, 0.5), (0.0, 1.0))))
    short = []
    for outputs in (10, 500, 500, 10, 500, 10, 10):
        with router.route(estimate(outputs), now_s=0.0) as lease:
            if lease.bucket == SHORT:
                short.append(lease.backend.pool)
            else:
                assert lease.backend.pool == "b"

    assert short == ["a", "b", "a", "b"]


def test_the_least_loaded_backend_serves():
    """Requests spread over a pool's backends by load."""
    router = make_router(make_table((1.0,)), per_pool=3)

    names = {router.route(estimate(), now_s=0.0).backend.name for _ in range(3)}

    assert names == {"a-0", "a-1", "a-2"}


def test_pending_prefill_weighs_like_load():
    """A backend with a long prompt before it is passed over until its first token came."""
    router = make_router(make_table((1.0,), prefill_s=0.001))
    long = router.route(estimate(inputs=900), now_s=0.0)  # 0.1 load + 0.9 of the backlog
    others = [router.route(estimate(inputs=1), now_s=0.0) for _ in range(3)]

    assert {lease.backend.name for lease in others} == {"a-1"}
    long.prefilled()
    assert router.route(estimate(inputs=1), now_s=0.0).backend is long.backend


def test_a_request_that_breaks_the_slo_spills():
    """A full pool's request goes to the next feasible one in the plan's order, marked."""
    router = make_router(make_table((1.0, 0.0, 0.0), feasible=((True, False, True),) * 2))
    fill(router, "a", 0.95)

    lease = router.route(estimate(), now_s=0.0)

    assert (lease.backend.pool, lease.decision) == ("c", "spill")


def test_prefill_beyond_the_backlog_spills():
    """A pool with more prefill before it than its class allows is passed over too."""
    router = make_router(make_table((1.0, 0.0), prefill_s=0.001), per_pool=1)
    router.route(estimate(inputs=600), now_s=0.0)

    lease = router.route(estimate(inputs=600), now_s=0.0)

    assert (lease.backend.pool, lease.decision) == ("b", "spill")


def test_load_and_prefill_add_up():
    """A prompt that would fit if its prefill or the load were alone spills when both are there."""
    router = make_router(make_table((1.0, 0.0), prefill_s=0.001), per_pool=1)
    fill(router, "a", 0.5)
    router.route(estimate(inputs=200), now_s=0.0)

    lease = router.route(estimate(inputs=700), now_s=0.0)

    assert (lease.backend.pool, lease.decision) == ("b", "spill")


def test_a_long_prompt_goes_where_no_other_waits():
    """A prompt of most of the backlog fits beside answers, but not beside another such prompt."""
    router = make_router(make_table((1.0,), prefill_s=0.001), per_pool=1)
    fill(router, "a", 0.5)

    first = router.route(estimate(inputs=650), now_s=0.0)

    assert first is not None
    assert router.route(estimate(inputs=650), now_s=0.0) is None
    first.prefilled()
    assert router.route(estimate(inputs=650), now_s=0.0) is not None


def test_a_first_token_that_would_come_too_late_is_no_room():
    """What is left of the time until a first token is due must suffice for the prefill ahead."""
    router = make_router(make_table((1.0,), prefill_s=0.001), per_pool=1)
    router.route(estimate(inputs=300), now_s=0.0)

    assert router.route(estimate(inputs=300), now_s=0.0, slack_s=0.5) is None
    assert router.route(estimate(inputs=300), now_s=0.0, slack_s=0.7) is not None


def test_without_room_nothing_is_reserved():
    """Where no backend keeps the SLO there is no lease, until one has ended."""
    router = make_router(make_table((1.0,)), per_pool=1)
    held = fill(router, "a", 0.95)

    assert router.route(estimate(), now_s=0.0) is None
    assert router.fleet.pool("a")[0].in_flight == 1
    held[0].release()
    assert router.route(estimate(), now_s=0.0).decision == "planned"


def test_a_turn_that_found_no_room_is_not_lost():
    """Requests that ask in vain do not move the shares of those that are placed."""
    router = make_router(make_table((0.75, 0.25)), per_pool=1)
    held = fill(router, "a", 0.95) + fill(router, "b", 0.95)
    assert [router.route(estimate(), now_s=0.0) for _ in range(7)] == [None] * 7
    for lease in held:
        lease.release()
    pools = []

    for _ in range(8):
        with router.route(estimate(), now_s=0.0) as lease:
            pools.append(lease.backend.pool)

    assert pools == ["a", "a", "b", "a"] * 2


def test_backends_that_take_nothing_are_no_room_to_give_out():
    """Who yields to others fills what serves, and no faster because others are down or cold."""
    router = make_router(make_table((1.0,)), per_pool=4)
    for lease in fill(router, "a", 0.5)[1:]:
        lease.release()
    _, cold, *down = router.fleet.pool("a")
    for backend in down:
        backend.probed(False)
    cold.warm_up(0.0, 10.0)

    assert router.hurried(0, 2.0) == [0]


def test_a_pool_that_others_wait_for_is_left_alone():
    """A barred pool gets no request, whether it is the planned one or one to spill to."""
    router = make_router(make_table((1.0, 0.0)), per_pool=1)

    assert router.route(estimate(), now_s=0.0, barred=[0]).backend.pool == "b"
    assert router.route(estimate(), now_s=0.0, barred=[0, 1]) is None


def test_spill_needs_the_slo_at_the_p90():
    """A pool that holds the bucket but not the output's P90 takes no spill."""
    router = make_router(
        make_table((1.0, 0.0, 0.0), feasible=((True, True, True), (True, False, True)))
    )
    fill(router, "a", 0.95)

    assert router.route(estimate(10, p90=10), now_s=0.0).backend.pool == "b"
    assert router.route(estimate(10, p90=500), now_s=0.0).backend.pool == "c"


def test_backends_fill_up_to_the_promise():
    """A backend takes as many as keep the SLO together, and not one more."""
    router = make_router(make_table((1.0,), slots=(0.3,)), per_pool=2)

    leases = [router.route(estimate(), now_s=0.0) for _ in range(7)]

    assert [lease is not None for lease in leases] == [True] * 6 + [False]
    assert [round(b.load, 6) for b in router.fleet.pool("a")] == [0.9, 0.9]


def test_an_idle_backend_takes_what_is_larger_than_itself():
    """A request whose slot alone exceeds every limit is served by an idle backend, not refused."""
    router = make_router(make_table((1.0,), slots=(5.0,), prefill_s=1.0), per_pool=1)

    lease = router.route(estimate(), now_s=0.0)

    assert lease.decision == "planned"
    assert router.route(estimate(), now_s=0.0) is None


def test_a_request_of_several_sequences_weighs_as_many():
    """Four choices are four times the load of one, and four prompts four times the prefill."""
    table = make_table((1.0,), slots=(0.1,), prefill_s=0.001)
    router = make_router(table, per_pool=1)
    (backend,) = router.fleet.backends
    choices = router.route(estimate(width=4), now_s=0.0)
    after = backend.load, backend.pending_s, backend.in_flight
    prompts = router.route(estimate(prompts=4, width=4), now_s=0.0)

    assert after == pytest.approx((0.4, 0.01, 4))
    assert (backend.load, backend.pending_s) == pytest.approx((0.8, 0.05))
    assert (choices.width, prompts.width, backend.in_flight) == (4, 4, 8)
    assert router.route(estimate(width=3), now_s=0.0) is None
    assert router.route(estimate(), now_s=0.0) is not None


def test_what_is_wider_than_a_backend_is_promised_nothing_and_gets_one_to_itself():
    """It is served where no other request is disturbed, and not refused: the engine can do it."""
    router = make_router(make_table((1.0,), slots=(0.1,)), per_pool=3)
    first, _, third = router.fleet.backends
    first_lease = router.route(estimate(), now_s=0.0)
    wide = estimate(width=128)

    assert router.promised(estimate(width=10), SHORT)
    assert not router.promised(wide, SHORT)
    lease = router.route(wide, now_s=0.0)
    assert lease.decision == "best-effort"
    assert first_lease.backend is first
    assert lease.backend is not first
    assert lease.backend.load == pytest.approx(12.8)
    # None is idle: it waits, and small requests are not placed beside the wide one.
    beside = [router.route(estimate(), now_s=0.0).backend for _ in range(15)]
    assert lease.backend not in beside
    assert router.route(wide, now_s=0.0) is None
    lease.release()
    assert lease.backend.load == 0.0
    assert third.in_flight >= 0


def test_a_list_of_embeddings_needs_no_backend_to_itself():
    """It is gone with its prefill, and a trickle of others must not keep it waiting for ever; while
    it is there, it counts in full."""
    router = make_router(make_table((1.0,), slots=(0.01,), prefill_s=1e-5), per_pool=1)
    (backend,) = router.fleet.backends
    router.route(estimate(outputs=1), now_s=0.0)
    batch = estimate(outputs=1, prompts=500, width=500)

    assert router.promised(batch, SHORT)
    assert router.route(batch, now_s=0.0).decision == "planned"
    assert backend.load == pytest.approx(5.01)
    assert router.route(batch, now_s=0.0) is None
    assert not router.promised(estimate(prompts=500, width=500), SHORT)
    assert not router.promised(estimate(outputs=1, prompts=8000, width=8000), SHORT)


def test_a_wide_request_must_fit_into_memory_and_time_as_well():
    """Its sequences hold their prompts together, and their prefill is one queue."""
    table = make_table((1.0,), slots=(0.001,), prefill_s=0.001)
    small = replace(table, kv_tokens=(1000,))

    assert make_router(table).promised(estimate(prompts=50, width=50), SHORT)
    assert not make_router(small).promised(estimate(prompts=50, width=50, outputs=40), SHORT)
    assert not make_router(table).promised(estimate(prompts=100, width=100), SHORT)
    assert make_router(table).promised(estimate(width=100), SHORT)


def test_without_a_live_backend_it_is_unavailable():
    """Nothing alive is told apart from everything full."""
    router = make_router(make_table((0.5, 0.5)))
    for backend in router.fleet.backends:
        backend.healthy = False

    with pytest.raises(Unavailable):
        router.route(estimate(), now_s=0.0)
    assert all(b.in_flight == 0 for b in router.fleet.backends)


def test_a_paused_backend_gets_nothing_until_its_pause_ends():
    """The breaker counts as not alive."""
    router = make_router(make_table((1.0,)), per_pool=1)
    router.fleet.pool("a")[0].breaker.failed(10.0, unreachable=True, may_open=True)

    with pytest.raises(Unavailable):
        router.route(estimate(), now_s=10.5)
    assert router.route(estimate(), now_s=11.0).backend.name == "a-0"


def test_only_the_planned_number_of_backends_serve():
    """Of four backends a plan for two uses two; a dead one is replaced by the next."""
    router = make_router(make_table((1.0,), backends=(2,)), per_pool=4)

    def used():
        leases = [router.route(estimate(), now_s=0.0) for _ in range(8)]
        for lease in leases:
            lease.release()
        return {lease.backend.name for lease in leases}

    assert used() == {"a-0", "a-1"}
    router.fleet.pool("a")[0].healthy = False
    assert used() == {"a-1", "a-2"}


def test_backends_outside_the_plan_serve_when_no_other_has_room():
    """What runs although the plan does not use it is better than an error or a wait."""
    router = make_router(make_table((1.0, 0.0), backends=(1, 0)), per_pool=1)
    fill(router, "a", 0.95)

    lease = router.route(estimate(), now_s=0.0)

    assert (lease.backend.pool, lease.decision) == ("b", "spill")


def test_backends_that_failed_this_request_are_not_tried_again():
    """`exclude` leaves the others, and nothing when all were tried."""
    router = make_router(make_table((1.0, 0.0)), per_pool=1)

    lease = router.route(estimate(), now_s=0.0, exclude=["a-0"])

    assert (lease.backend.name, lease.decision) == ("b-0", "spill")
    with pytest.raises(Unavailable):
        router.route(estimate(), now_s=0.0, exclude=["a-0", "b-0"])


def test_an_unknown_model_is_named():
    """No pool is guessed for a model that nobody configured."""
    router = make_router(make_table((1.0,)))

    with pytest.raises(ModelNotFound) as refused:
        router.route(estimate(model="gpt-9"), now_s=0.0)
    assert (refused.value.status, refused.value.param) == (404, "model")
    assert "gpt-9" in refused.value.message


def test_a_size_that_no_pool_holds_is_served_best_effort():
    """The plan gives such a bucket to nobody; it is served all the same, and marked."""
    router = make_router(make_table((0.0, 0.0), feasible=((False, False),) * 2))

    lease = router.route(estimate(), now_s=0.0)

    assert lease.decision == "best-effort"


def test_a_prompt_beyond_a_pools_context_never_goes_there_while_another_has_room():
    """A full pool with room for the context is better than an idle one that must refuse it."""
    table = make_table((0.0, 0.0), feasible=((False, False),) * 2, context=(4096, 512))
    router = make_router(table, per_pool=1)
    held = [router.route(estimate(inputs=600), now_s=0.0) for _ in range(8)]

    assert router.route(estimate(inputs=600), now_s=0.0) is None
    assert {lease.backend.pool for lease in held} == {"a"}
    assert router.route(estimate(inputs=500), now_s=0.0).backend.pool == "b"


@pytest.mark.parametrize("promised", [True, False])
def test_a_prompt_beyond_every_context_never_waits(promised: bool):
    """Its engine says at once that it is too long; a full gateway would say that it is full."""
    table = make_table((1.0,), feasible=((promised,),) * 2, context=(512,))
    router = make_router(table, per_pool=1)
    while router.route(estimate(), now_s=0.0) is not None:
        pass

    pending_s = router.fleet.backends[0].pending_s

    assert router.route(estimate(inputs=511), now_s=0.0) is None
    lease = router.route(estimate(inputs=512), now_s=0.0)
    assert (lease.backend.name, lease.decision) == ("a-0", "best-effort")
    assert lease.backend.pending_s == pending_s


def test_an_engine_that_refused_gets_no_more_than_it_holds():
    """Its own limit is believed for a while: others serve, or there is no room."""
    router = make_router(make_table((1.0,)), per_pool=2)
    a, b = router.fleet.backends
    held = [router.route(estimate(), now_s=0.0) for _ in range(4)]
    refused = next(lease for lease in held if lease.backend is a)
    a.refused(0.0)
    refused.release()

    assert {router.route(estimate(), now_s=0.5).backend for _ in range(3)} == {b}
    b.refused(0.5)
    assert router.route(estimate(), now_s=0.5) is None
    assert router.route(estimate(), now_s=0.5 + FULL_S).backend is a


def test_a_swap_keeps_the_leases():
    """A new table takes effect at once; what is under way is still counted, and can end."""
    router = make_router(make_table((1.0, 0.0)))
    held = [router.route(estimate(), now_s=0.0) for _ in range(4)]

    router.table = make_table((0.0, 1.0), plan_id="p2")
    after = router.route(estimate(), now_s=0.0)

    assert (after.backend.pool, after.plan_id, held[0].plan_id) == ("b", "p2", "p1")
    assert sum(b.in_flight for b in router.fleet.pool("a")) == 4
    for lease in (*held, after):
        lease.release()
    assert all((b.in_flight, b.load) == (0, 0.0) for b in router.fleet.backends)


STEP = st.one_of(
    st.tuples(st.just("route"), st.integers(1, 2000), st.integers(1, 900)),
    st.tuples(st.sampled_from(["prefilled", "release", "fail"]), st.integers(0, 50), st.just(0)),
    st.tuples(st.just("swap"), st.integers(0, 100), st.just(0)),
)


@given(st.lists(STEP, max_size=60), st.randoms(use_true_random=False))
def test_released_leases_leave_nothing_behind(steps, order):
    """Whatever order things happen in, a fleet without leases carries exactly nothing."""
    router = make_router(make_table((0.3, 0.7), slots=(0.13, 0.07), prefill_s=1e-4))
    leases = []
    for now_s, (step, x, y) in enumerate(steps):
        if step == "route":
            with suppress(Unavailable):
                lease = router.route(estimate(y, inputs=x), now_s=now_s)
                leases += [] if lease is None else [lease]
        elif step == "swap":
            router.table = make_table((x / 100, 1 - x / 100), slots=(0.11, 0.31), prefill_s=3e-4)
        elif leases:
            lease = leases[x % len(leases)]
            if step == "fail":
                lease.backend.breaker.failed(now_s, unreachable=False, may_open=True)
            else:
                getattr(lease, step)()
        assert all(b.pending_s > -1e-9 and b.load > -1e-9 for b in router.fleet.backends)
    order.shuffle(leases)

    for lease in leases:
        lease.release()
        lease.prefilled()
        lease.release()

    for backend in router.fleet.backends:
        assert (backend.in_flight, backend.load, backend.pending_s) == (0, 0.0, 0.0)


def test_a_real_plan_is_executed(plan, table, fleet):
    """Shares by bucket follow the weights of a solved plan."""
    router = Router(table, fleet)
    for bucket in range(plan.buckets.count):
        inputs, outputs = plan.buckets.grid.centre(bucket)
        typical = estimate(outputs, inputs=inputs, model="llama-3-8b")
        counts = dict.fromkeys(plan.pools, 0)
        for _ in range(100):
            lease = router.route(typical, now_s=0.0)
            assert lease is not None
            counts[lease.backend.pool] += 1
            assert (lease.bucket, lease.plan_id) == (bucket, plan.plan_id)
            lease.release()
        shares = [count / 100 for count in counts.values()]
        assert shares == pytest.approx(plan.weights[bucket], abs=0.01)


def test_a_class_has_buckets_of_its_own(plan, pools):
    """The same size asked for under another promise is another bucket, shares and slots."""
    kind = plan.buckets.classes[0]
    buckets = replace(plan.buckets, classes=(kind, replace(kind, name="batch")))
    double = {name: getattr(plan, name) * 2 for name in ("weights", "rate", "seconds", "slots")}
    table = compile_table(replace(plan, buckets=buckets, **double), pools)
    router = make_router(table)
    size = {"model": kind.model, "input_tokens": 100, "output_tokens": 50, "output_p90": 60}
    plain = Estimate(**size)

    lease = router.route(Estimate(**size, slo_class="batch"), now_s=0.0)

    assert lease.bucket == router.bucket(plain) + buckets.grid.cells
    assert router.class_names(kind.model) == ("default", "batch", "best-effort")
    assert router.class_names("nobody") == ()


def test_an_unknown_class_is_told_with_the_known_ones():
    """The error names the header, the class and those that there are; a model comes first."""
    router = make_router(make_table((1.0,)))

    with pytest.raises(ClassNotFound, match=r"x-cuvee-slo-class.*`m`.*`batch`.*`default`"):
        router.class_index("m", "batch")
    with pytest.raises(ModelNotFound):
        router.class_index("nobody", "batch")


def test_a_backend_that_has_come_up_gets_more_and_more():
    """One request at a time at first, then what it can take."""
    router = make_router(make_table((1.0,)))
    router.fleet.warmup_s = 10.0
    warm, back = router.fleet.pool("a")
    router.fleet.probed(back, False, 0.0)
    router.fleet.probed(back, True, 0.0)
    estimate, held = Estimate(model="m", input_tokens=10, output_tokens=10, output_p90=10), []
    for now_s in (0.0, 5.0, 10.0):
        while router.route(estimate, now_s=now_s) is not None:
            pass
        held.append((warm.in_flight, back.in_flight))

    assert held == [(10, 1), (10, 5), (10, 10)]
