"""Affinity under the plan: prompts go where they have been, as far as promises and others allow."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.affinity import Affinity
from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.membership import changed
from gateway.routing.prefix_index import PrefixIndex
from gateway.routing.prefix_trail import PrefixTrail
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable
from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo

TTFT_S = 1.0
TOKENS = 1_000
PREFILL_S = 0.0004  # of a token: 0.4 s of the whole prompt
BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=TTFT_S, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 2000), output_edges=(1, 1000)),
)


def make_table(*, pools=("a",), slot=0.1, backends=8, prefill_s=PREFILL_S, cached=0.0):
    count = len(pools)
    return RoutingTable(
        plan_id="p",
        buckets=BUCKETS,
        pools=pools,
        backends=(backends,) * count,
        slices=(((0, 1.0),),),
        order=(tuple(range(count)),),
        feasible=((True,) * count,),
        slots=(((slot,),) * count,),
        own=(0,),
        siblings=((0,),),
        guards=((True,),) * count,
        prefill_s=(prefill_s * (1 - cached),) * count,
        context=(4096,) * count,
        kv_tokens=(1 << 20,) * count,
        backlog_s=(TTFT_S,),
        allowed_s=(TTFT_S,),
        entry_s=(0.0,),
        fill_s=(10.0,) * count,
        strictest=(0,) * count,
        ranks=(0,),
        cached_share=(cached,) * count,
    )


def make_router(per_pool=3, **table):
    made = make_table(**table)
    fleet = Fleet.of({p: tuple(f"http://{p}{n}" for n in range(per_pool)) for p in made.pools})
    return Router(made, fleet)


def asks(talk, *, known=10, of=10, session=0, tokens=TOKENS):
    """A request of a conversation; the first `known` of its ten beginnings are those of others."""
    hashes = [hash((talk if n < known else (talk, known), n)) & ((1 << 60) - 1) for n in range(of)]
    estimate = Estimate(model="m", input_tokens=tokens, output_tokens=10, output_p90=10)
    estimate.trail = PrefixTrail(hashes, list(range(1, of + 1)), of, session=session)
    return estimate


def serve(router, estimate, now_s=0.0):
    """Place a request and let it end at once; its lease."""
    lease = router.route(estimate, now_s=now_s)
    lease.release()
    return lease


def load(router, number, leases=1):
    """Hold leases on one backend."""
    others = [b.name for n, b in enumerate(router.fleet.backends) if n != number]
    plain = Estimate(model="m", input_tokens=1, output_tokens=10, output_p90=10)
    held = [router.route(plain, now_s=0.0, exclude=others) for _ in range(leases)]
    for lease in held:
        lease.prefilled()
    return held


def test_a_conversation_goes_back_although_others_are_idler():
    """Less prefill is worth more than a few requests; the lease says why it went there."""
    router = make_router()
    first = serve(router, asks("talk"))
    load(router, 0, leases=2)

    again = serve(router, asks("talk"))

    assert first.backend is again.backend is router.fleet.backends[0]
    assert (first.decision, again.decision) == ("planned", "affinity")
    assert serve(router, asks("another")).backend is not first.backend


def test_where_it_would_go_anyway_it_is_as_planned():
    """`affinity` is what changed the choice."""
    router = make_router()
    serve(router, asks("talk"))

    assert serve(router, asks("talk")).decision == "planned"


def test_a_home_without_room_is_passed_over():
    """No promise is broken for a hit."""
    router = make_router(slot=0.11)
    serve(router, asks("talk"))
    load(router, 0, leases=9)

    lease = serve(router, asks("talk"))

    assert lease.backend is not router.fleet.backends[0]


def test_a_small_hit_is_worth_no_imbalance():
    """A hundredth of a prompt is no reason to go to a fuller backend."""
    router = make_router()
    serve(router, asks("talk", known=1, of=100))
    load(router, 0, leases=5)

    assert serve(router, asks("talk", known=1, of=100, tokens=100)).backend.name != "a-0"


def test_a_home_where_a_prompt_waits_is_gone_to_if_it_is_first_all_the_same():
    """Prompts wait there, but what is left of this one takes less than all of it elsewhere. Where
    its own promise would not hold it is no home."""
    went = []
    for slack_s in (5.0, 1.0):
        router = make_router(per_pool=2)
        serve(router, asks("talk"))
        told(router, "talk", times=400)
        waiting = router.route(asks("long", tokens=2_600), now_s=0.0)
        assert waiting.backend.name == "a-0"
        assert waiting.backend.pending_s > TTFT_S
        lease = router.route(asks("talk", tokens=2_000), now_s=0.0, slack_s=slack_s)
        went.append(lease.backend.name)

    assert went == ["a-0", "a-1"]


def told(router, talk, times=40, cached=TOKENS):
    """Let answers tell hits, until the router is sure of them."""
    for _ in range(times):
        estimate = asks(talk)
        serve(router, estimate)
        router.affinity.learn(estimate.trail, TOKENS, cached)


def test_what_is_promised_by_follows_what_answers_tell():
    """Until hits are told the plan's average is charged; then what is left to compute; and where
    none come, all of it."""
    router = make_router(per_pool=1, cached=0.25)
    serve(router, asks("talk"))
    before = router.route(asks("talk"), now_s=0.0).backend.pending_s
    told(router, "talk", cached=0)
    untold = make_router(per_pool=1, cached=0.25)
    serve(untold, asks("talk"))
    told(untold, "talk", times=400)

    assert before == pytest.approx(0.75 * PREFILL_S * TOKENS)
    assert untold.route(asks("talk"), now_s=0.0).backend.pending_s < 0.1 * PREFILL_S * TOKENS
    router.fleet.backends[0].pending_s = 0.0
    told(router, "talk", times=400, cached=0)
    assert router.route(asks("talk"), now_s=0.0).backend.pending_s > 0.95 * PREFILL_S * TOKENS


def test_wrong_beliefs_lose_their_credit():
    """An engine that tells that nothing was there is no home any more."""
    router = make_router()
    serve(router, asks("talk"))
    told(router, "talk", times=1, cached=1)
    for _ in range(400):
        estimate = asks("talk")
        serve(router, estimate)
        router.affinity.learn(estimate.trail, TOKENS, None)
    load(router, 0, leases=2)

    assert serve(router, asks("talk")).backend.name != "a-0"


def test_a_prompt_that_all_send_gets_more_homes():
    """Its backend fills up, another one takes it, and is known as its home too."""
    router = make_router(per_pool=3)
    held = [router.route(asks("hot"), now_s=0.0) for _ in range(12)]
    names = {lease.backend.name for lease in held if lease is not None}
    for lease in held:
        if lease is not None:
            lease.release()

    estimate = asks("hot")
    router.affinity.find(estimate.trail, 1.0)
    assert names == set(estimate.trail.shares) == {"a-0", "a-1", "a-2"}


def test_a_session_goes_where_it_was_without_a_common_beginning():
    """Its client may write its prompt anew; the name says where it belongs."""
    router = make_router()
    serve(router, asks("one", session=77))
    load(router, 0, leases=1)

    assert serve(router, asks("two", session=77)).backend.name == "a-0"
    assert serve(router, asks("three", session=78)).backend.name != "a-0"


def test_affinity_keeps_to_the_backends_of_the_plan():
    """A home beyond the number that the plan uses is left to be stopped."""
    router = make_router(per_pool=2, backends=1, slot=0.11)
    held = load(router, 0, leases=9)
    beyond = router.route(asks("talk"), now_s=0.0)
    for lease in (*held, beyond):
        lease.release()

    assert (beyond.backend.name, beyond.decision) == ("a-1", "spill")
    assert serve(router, asks("talk")).backend.name == "a-0"


def test_a_pool_may_be_left_out():
    """Where it is off, the choice and what is charged are as without."""
    router = make_router(cached=0.5)
    router.affinity.configure({"a": "off"})
    serve(router, asks("talk"))
    load(router, 0, leases=2)

    lease = router.route(asks("talk"), now_s=0.0)

    assert (lease.backend.name, lease.decision) == ("a-1", "planned")
    assert lease.backend.pending_s == pytest.approx(0.5 * PREFILL_S * TOKENS)


@pytest.mark.parametrize("asleep", [False, True])
def test_an_engine_that_was_away_has_nothing(asleep):
    """It began anew, or gave up its memory."""
    router = make_router()
    backend = router.fleet.backends[0]
    serve(router, asks("talk"))
    backend.healthy, backend.asleep = asleep, asleep
    router.look_after(1.0)
    backend.healthy, backend.asleep = True, False
    router.look_after(2.0)
    load(router, 0, leases=1)

    assert serve(router, asks("talk"), now_s=2.0).backend is not backend


def test_a_row_that_goes_to_another_backend_takes_nothing_along():
    """Rows are given again, names never."""
    router = make_router(per_pool=2)
    serve(router, asks("talk"))
    fleet = router.fleet
    gone = changed(fleet.membership, {"a": ("http://a1",)})
    router.apply(gone)
    router.apply(changed(gone, {"a": ("http://a1", "http://new")}))
    new = next(b for b in fleet.backends if b.url == "http://new")
    new.probed(True)

    estimate = asks("talk")
    router.affinity.find(estimate.trail, 9.0)
    assert fleet.row(new) == 0
    assert estimate.trail.shares == {}


def test_what_was_learned_outlives_a_table():
    """Another plan is in force, and conversations go on where they are."""
    router = make_router()
    serve(router, asks("talk"))
    router.table = replace(make_table(), plan_id="q")
    load(router, 0, leases=2)

    assert serve(router, asks("talk")).backend.name == "a-0"


def test_workers_share_an_index():
    """A conversation whose next connection reaches another worker goes on at its backend."""
    memory = bytearray(8 * PrefixIndex.words(rows=8))
    routers = [make_router(), make_router()]
    for router in routers:
        router.affinity.share(PrefixIndex(memory, rows=8))
    serve(routers[0], asks("talk"))
    load(routers[1], 0, leases=2)

    assert serve(routers[1], asks("talk")).decision == "affinity"


def test_requests_without_a_trail_push_out_what_was_there():
    """An engine keeps them too."""
    router = make_router(per_pool=1)
    serve(router, asks("talk"))
    for _ in range(300):
        serve(router, Estimate(model="m", input_tokens=3_900, output_tokens=10, output_p90=10))

    estimate = asks("talk")
    router.affinity.find(estimate.trail, 9.0)
    assert estimate.trail.shares == {}


def test_a_router_that_never_saw_a_trail_keeps_no_index():
    """Two MiB for nothing."""
    router = make_router()
    serve(router, Estimate(model="m", input_tokens=10, output_tokens=10, output_p90=10))

    assert repr(router.affinity) == repr(Affinity())


def test_a_backend_that_cannot_serve_it_is_no_home():
    """It failed there, has no such adapter, or goes on from an answer that another one has."""
    router = make_router()
    serve(router, asks("talk"))

    assert router.route(asks("talk"), now_s=0.0, exclude=["a-0"]).backend.name != "a-0"


def test_requests_without_a_promise_go_home_too():
    """What is left over is left at their home, while it is light there."""
    router = make_router()
    serve(router, asks("talk"))
    load(router, 0, leases=2)
    estimate = asks("talk")
    estimate.slo_class = "best-effort"

    lease = serve(router, estimate)

    assert (lease.backend.name, lease.decision) == ("a-0", "best-effort")


def test_a_conversation_stays_in_its_pool_while_the_shares_allow():
    """Two pools take turns in a bucket; whose turn it is gives it to the conversation's own and
    gets the next one, so that both have their shares in the end."""
    table = replace(make_table(pools=("a", "b")), slices=(((0, 0.5), (1, 0.5)),))
    router = make_router(pools=("a", "b"))
    router.table = table
    first = serve(router, asks("talk"))

    stays = [serve(router, asks("talk")).backend.pool for _ in range(4)]
    others = [serve(router, asks(("other", n))).backend.pool for n in range(12)]

    assert set(stays) == {first.backend.pool}
    pools = [first.backend.pool, *stays, *others]
    assert abs(pools.count("a") - pools.count("b")) <= 1


def test_no_pool_gets_more_than_its_share_for_long():
    """However many prompts have been in one pool, the other one has its turns."""
    table = replace(make_table(pools=("a", "b")), slices=(((0, 0.5), (1, 0.5)),))
    router = make_router(pools=("a", "b"))
    router.table = table

    pools = [serve(router, asks("talk")).backend.pool for _ in range(60)]

    assert abs(pools.count("a") - pools.count("b")) <= 18


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([50, 500, 2_000]), st.booleans()),
        max_size=60,
    )
)
def test_no_hit_is_worth_a_promise(steps):
    """Whatever comes, with trails or without, and whatever ends: no backend that serves several
    ever has more than its promise allows, and what is pending is taken back to nothing."""
    router = make_router(slot=0.13)
    held: list[Lease] = []
    for talk, tokens, ends in steps:
        if ends and held:
            held.pop(0).release()
            continue
        lease = router.route(asks(talk, tokens=tokens), now_s=0.0, slack_s=1.5)
        if lease is not None:
            held.append(lease)
            assert lease.backend.in_flight == 1 or lease.backend.load <= 1.0 + 1e-9

    for lease in held:
        lease.release()
    assert all(b.pending_s == 0.0 and b.load == 0.0 for b in router.fleet.backends)
