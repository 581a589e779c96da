"""Demand as observed: rates, sizes, burstiness, and forgetting."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.observed import TICK_S, UNHEARD_S, ObservedDemand
from gateway.telemetry.stats_schema import StatsDelta
from planner.model.buckets import Buckets, SloClass
from planner.program import solve
from planner.sizes import Grid
from planner.slo import Slo

WINDOW_S, MEMORY_S = 100.0, 300.0


def observed(buckets, *, now_s=0.0, window_s=WINDOW_S, memory_s=MEMORY_S, dispersion=1.5):
    return ObservedDemand(
        buckets, window_s=window_s, memory_s=memory_s, dispersion=dispersion, now_s=now_s
    )


def test_rates_are_arrivals_over_elapsed_time(buckets):
    """Before the window is full the rate is that of the time there was."""
    h = observed(buckets, now_s=1000.0)
    for n in range(40):
        h.arrive(3, 1000.0 + n)
        h.arrive(7, 1000.0 + n)
    demand = h.snapshot(1040.0)

    assert (demand.rate[3], demand.rate[7], demand.total_rate) == (1.0, 1.0, 2.0)
    assert h.requests == 80


def test_the_window_forgets(buckets):
    """Rates are of the last window only, and nothing is left of traffic that stopped."""
    h = observed(buckets)
    for n in range(1000):
        h.arrive(3 if n < 500 else 4, float(n))
    assert h.snapshot(999.0).rate[3] == 0
    assert h.snapshot(999.0).rate[4] == pytest.approx(1.0, rel=0.05)

    demand = h.snapshot(2000.0)
    assert (demand.total_rate, h.requests) == (0.0, 0)


def test_shed_requests_are_demand(buckets):
    """What arrived counts, though nothing of it completed."""
    h = observed(buckets)
    for n in range(100):
        h.arrive(2, n * 0.5)

    assert h.snapshot(50.0).rate[2] == pytest.approx(2.0)


@given(
    st.lists(
        st.tuples(st.integers(0, 19), st.integers(1, 5000), st.integers(1, 900)),
        min_size=1,
        max_size=60,
    )
)
def test_sums_add_up(buckets, rows):
    """Each bucket's shares sum to 1, and its mean size is that of what fell into it."""
    h = observed(buckets)
    for bucket, inputs, outputs in rows:
        h.complete(bucket, inputs, outputs)
    demand = h.snapshot(10.0)

    for bucket in {b for b, *_ in rows}:
        mine = demand.bucket == bucket
        assert demand.share[mine].sum() == pytest.approx(1.0)
        for column, values in ((1, demand.input_tokens), (2, demand.output_tokens)):
            mean = np.mean([row[column] for row in rows if row[0] == bucket])
            assert (demand.share * values)[mine].sum() == pytest.approx(mean)


def test_prefix_hits_are_observed(buckets):
    """Six of ten prompt tokens hit, and hits fade like sizes do; what is remembered keeps them."""
    h = observed(buckets)
    for n in range(200):
        h.arrive(3, n * 1.0)
        h.complete(3, 1000 + n, 50, (1000 + n) * 3 // 5)
    demand = h.snapshot(200.0)
    again = observed(buckets)
    again.remember(demand, 200.0)

    for known in (demand, again.snapshot(5.0)):
        prompts = known.share * known.input_tokens
        assert (prompts * known.cached_share).sum() / prompts.sum() == pytest.approx(0.6, abs=0.001)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 900)), max_size=40), st.randoms())
def test_order_does_not_matter(buckets, rows, chance):
    """A histogram is a sum: the same requests in any order are the same demand."""
    one, other = observed(buckets), observed(buckets)
    for bucket, tokens in rows:
        one.complete(bucket, tokens, tokens)
    chance.shuffle(rows)
    for bucket, tokens in rows:
        other.complete(bucket, tokens, tokens)

    def sizes(h):
        d = h.snapshot(1.0)
        return sorted(zip(d.bucket, d.input_tokens, d.output_tokens, d.share, strict=True))

    assert np.array(sizes(one)) == pytest.approx(np.array(sizes(other)))


def test_old_sizes_fade_by_half_lives(buckets):
    """After one half-life an old request counts half of a new one; unseen buckets keep theirs."""
    h = observed(buckets)
    h.complete(0, 100, 100)
    h.complete(1, 50, 50)
    h.arrive(0, MEMORY_S)
    h.complete(0, 1000, 100)
    demand = h.snapshot(MEMORY_S)
    share = dict(zip(demand.input_tokens.tolist(), demand.share.tolist(), strict=True))

    assert share == pytest.approx({100.0: 1 / 3, 1000.0: 2 / 3, 50.0: 1.0})


def test_weeks_of_traffic_stay_finite(buckets):
    """Weights that grow with time are brought back before they overflow, shares unchanged."""
    h = observed(buckets, memory_s=10.0)
    for hour in range(24 * 14):
        now_s = hour * 3600.0
        h.arrive(0, now_s)
        h.complete(0, 100, 10)
        h.complete(0, 1000, 10, 600)
    demand = h.snapshot(now_s)

    assert sorted(demand.share.tolist()) == pytest.approx([0.5, 0.5])
    assert sorted(demand.cached_share.tolist()) == pytest.approx([0.0, 0.6])


@pytest.mark.parametrize("idle_s", [1e3, 1e5, 1e7, 1e9])
@pytest.mark.parametrize("memory_s", [0.1, 10.0, 900.0])
def test_a_long_silence_is_survived(buckets, idle_s, memory_s):
    """The first request after a quiet month is counted like any other."""
    h = observed(buckets, memory_s=memory_s)
    h.arrive(0, 0.0)
    h.complete(0, 100, 10)

    h.arrive(1, idle_s)
    h.complete(1, 200, 20)

    demand = h.snapshot(idle_s)
    assert h.requests == 1
    assert demand.rate[1] > 0
    assert 1 in demand.bucket


def arrivals(buckets, per_tick, ticks=2000):
    """Dispersion after `ticks` of five seconds with so many arrivals each."""
    h = observed(buckets, window_s=5.0 * ticks, dispersion=1.5)
    for tick, count in enumerate(per_tick[:ticks]):
        for _ in range(count):
            h.arrive(tick % buckets.count, tick * 5.0 + 2.0)
    return h.snapshot(ticks * 5.0).dispersion[0]


def test_dispersion_tells_bursts_from_chance(buckets):
    """Poisson arrivals measure near 1, bursts far above; a regular beat never under 1."""
    rng = np.random.default_rng(5)
    busy = rng.random(1000) < 0.2

    assert arrivals(buckets, rng.poisson(10, 1000), 1000) == pytest.approx(1.0, abs=0.25)
    assert arrivals(buckets, rng.poisson(np.where(busy, 40, 2)), 1000) > 10
    assert arrivals(buckets, [10] * 1000, 1000) == 1.0


def test_dispersion_is_assumed_until_measured(buckets):
    """With no or few windows the configured value stands, or most of it."""
    assert observed(buckets).snapshot(0.0).dispersion == (1.5,)
    assert observed(buckets).snapshot(5000.0).dispersion == (1.5,)
    rng = np.random.default_rng(5)
    assert 1.1 < arrivals(buckets, rng.poisson(10, 6), 6) < 2.5


def test_a_snapshot_can_be_planned_for(buckets, pools):
    """What was observed is what the planner takes."""
    h, rng = observed(buckets), np.random.default_rng(2)
    for n in range(400):
        inputs, outputs = int(rng.integers(20, 1500)), int(rng.integers(10, 300))
        bucket = buckets.grid.cell(inputs, 100)  # as believed
        h.arrive(bucket, n * 0.1)
        h.complete(bucket, inputs, outputs)
    demand = h.snapshot(40.0)
    found = solve.provision(demand, pools)

    assert demand.total_rate == pytest.approx(10.0)
    assert not found.unserved
    assert sum(found.backends) >= 1


def test_what_earlier_traffic_taught_is_remembered(buckets, make_demand):
    """A histogram primed with a demand reports its sizes, and no arrivals."""
    demand = make_demand(10.0)
    h = observed(buckets)
    h.remember(demand, 60.0)
    seen = h.snapshot(10.0)

    assert (h.requests, seen.total_rate) == (0, 0.0)
    for bucket in set(demand.bucket.tolist()):
        want, got = demand.bucket == bucket, seen.bucket == bucket
        assert (seen.share * seen.output_tokens)[got].sum() == pytest.approx(
            (demand.share * demand.output_tokens)[want].sum()
        )


def test_sizes_travel_to_another_gateway(buckets, make_demand):
    """What is remembered here is remembered there, whatever the age of both."""
    h, other = observed(buckets), observed(buckets)
    h.remember(make_demand(10.0), 60.0)
    h.snapshot(5 * MEMORY_S)
    other.snapshot(MEMORY_S)
    other.recall(h.sizes)

    assert other.sizes.keys() == h.sizes.keys()
    for key, sums in h.sizes.items():
        assert other.sizes[key] == pytest.approx(sums)


def carried(h, buckets, now_s):
    return h.carried(buckets, window_s=WINDOW_S, memory_s=MEMORY_S, dispersion=1.5, now_s=now_s)


def test_a_class_that_stays_keeps_what_was_observed(buckets):
    """Under the number that it has now, and whatever it is promised; a new class has nothing."""
    cells, h = buckets.grid.cells, observed(buckets)
    for n in range(80):
        h.arrive(3, float(n))
        h.complete(3, 300, 100)
    stricter = replace(buckets.classes[0], slo=Slo(ttft_s=1.0, tpot_s=0.05))
    other = SloClass(model="other", slo=Slo(ttft_s=2.0, tpot_s=0.1))
    later = carried(h, Buckets(classes=(other, stricter), grid=buckets.grid), 80.0)
    for n in range(80, 100):
        later.arrive(cells + 3, float(n))
    before, after = h.snapshot(80.0), later.snapshot(100.0)

    assert after.rate[cells + 3] == before.rate[3] == 1.0
    assert set(after.bucket.tolist()) == {cells + 3}
    assert after.input_tokens.tolist() == before.input_tokens.tolist()
    assert not later.nothing


def test_another_grid_begins_anew(buckets):
    """The sizes that a bucket was estimated at cannot be told from its number."""
    h = observed(buckets)
    h.arrive(3, 50.0)
    h.complete(3, 300, 100)
    grid = Grid(input_edges=(64, 512, 2048), output_edges=(32, 512))
    later = carried(h, Buckets(classes=buckets.classes, grid=grid), 60.0)
    later.arrive(1, 61.0)

    assert later.nothing
    assert later.requests == 1
    assert later.snapshot(70.0).rate[1] == 0.1  # of the ten seconds since then


def remembering(buckets, requests=400):
    """Three of four requests in bucket 3, the others in bucket 7, all before second 100; what was
    reported since then is added by `hear`."""
    h = observed(buckets)
    for n in range(requests):
        bucket = 7 if n % 4 == 0 else 3
        h.add(StatsDelta(arrivals={bucket: 1}), n * 100.0 / requests)
        h.complete(bucket, 300, 100)
    return h


def hear(h, begin_s, end_s, *, seen=1.0):
    """Reports of nothing, twice a second."""
    for n in range(round((end_s - begin_s) * 2)):
        h.add(StatsDelta(), begin_s + n / 2, seen=seen)


def test_traffic_that_faded_has_the_remembered_mix_at_its_own_rate(buckets):
    """Nothing came in the last window: one request is counted, three quarters of it in bucket 3."""
    h = remembering(buckets)
    hear(h, 100.0, 400.0)
    demand = h.faded(400.0, 50)

    assert demand.total_rate == pytest.approx(1 / WINDOW_S)
    assert demand.rate[3] == pytest.approx(0.75 / WINDOW_S)
    assert demand.input_tokens.tolist() == pytest.approx([300.0, 300.0])
    assert h.requests == 0


def test_the_little_that_comes_counts(buckets):
    """Nine requests in the window are a tenth of one each second, with the one that may come."""
    h = remembering(buckets)
    hear(h, 100.0, 350.0)
    h.add(StatsDelta(arrivals={5: 9}), 350.0)
    hear(h, 350.0, 380.0)

    assert h.faded(380.0, 50).total_rate == pytest.approx(10 / WINDOW_S)


def test_a_gateway_that_has_just_started_has_not_observed_that_nothing_comes(buckets):
    """What it remembers is of a trace; only after a whole window is silence an observation."""
    h = observed(buckets, now_s=1000.0)
    for _ in range(400):
        h.complete(3, 300, 100)
    hear(h, 1000.0, 1000.0 + WINDOW_S)

    assert h.faded(1000.0 + WINDOW_S - 1.0, 50) is None
    assert h.faded(1000.0 + WINDOW_S, 50).total_rate == pytest.approx(1 / WINDOW_S)


def test_what_could_not_be_observed_is_not_nothing(buckets):
    """One of two workers does not report, or the loop stood still: a whole window must follow."""
    deaf, frozen = remembering(buckets), remembering(buckets)
    hear(deaf, 100.0, 300.0)
    hear(deaf, 300.0, 305.0, seen=0.5)
    hear(deaf, 305.0, 320.0)
    hear(frozen, 100.0, 290.0)
    hear(frozen, 290.0 + 2 * UNHEARD_S, 320.0)
    for h, blind_s in ((deaf, 305.0), (frozen, 310.0)):
        hear(h, 320.0, 320.0 + WINDOW_S)
        assert h.faded(blind_s + WINDOW_S - TICK_S, 50) is None
        assert h.faded(blind_s + WINDOW_S, 50) is not None
        assert h.faded(320.0 + WINDOW_S + 2 * UNHEARD_S, 50) is None


def test_time_stands_still_while_nothing_can_be_seen(buckets):
    """All workers are gone for ten minutes: the rate is what it was, then time goes on."""
    h = remembering(buckets)
    before = h.snapshot(100.0).total_rate
    hear(h, 100.0, 700.0, seen=0.0)
    assert h.snapshot(700.0).total_rate == pytest.approx(before, rel=0.05)
    hear(h, 700.0, 700.0 + WINDOW_S + TICK_S)

    assert h.requests == 0


def test_a_mix_of_a_few_requests_is_none(buckets):
    """Sizes that were never known are not guessed."""
    h = remembering(buckets, requests=40)
    hear(h, 100.0, 400.0)

    assert h.faded(400.0, 50) is None


def test_what_was_not_observed_is_carried_over(buckets):
    """Another configuration does not make the silence of a dead worker an observation, nor a window
    longer than was kept."""
    h = remembering(buckets)
    hear(h, 100.0, 300.0)
    longer = h.carried(buckets, window_s=3 * WINDOW_S, memory_s=MEMORY_S, dispersion=1.5, now_s=300)
    hear(longer, 300.0, 320.0)
    assert longer.faded(320.0, 50) is None
    h.add(StatsDelta(), 300.0, seen=0.5)
    same = carried(h, buckets, 300.0)
    hear(same, 300.0, 320.0)

    assert same.faded(320.0, 50) is None


def test_recent_rates_are_those_of_the_last_seconds_only(buckets):
    """Of so many seconds, or since the start where that is less; never of less than two ticks."""
    h = observed(buckets)
    for n in range(100):
        h.arrive(3 if n < 80 else 4, float(n))
    young = observed(buckets, now_s=90.0)
    for _ in range(20):
        young.arrive(3, 99.0)

    recent = h.recent(100.0, 20.0)
    assert recent[3] == pytest.approx(0.0, abs=0.05)
    assert recent[4] == pytest.approx(1.0, rel=0.3)
    assert young.recent(100.0, 60.0)[3] == pytest.approx(2.0, rel=0.01)


def test_it_is_known_for_how_long_all_has_been_observed(buckets):
    """Not while workers are missing, not before anything was, not while nobody reports."""
    h = observed(buckets, now_s=0.0)
    for n in range(50):
        h.add(StatsDelta(), float(n), seen=0.5 if n == 20 else 1.0)

    assert h.watched_s(49.0) == pytest.approx(29.0)
    assert h.watched_s(49.0 + 2 * UNHEARD_S) == 0.0


def test_sizes_that_are_remembered_make_a_demand_of_any_rate(buckets):
    """The rates are those that are asked for, the sizes those that came."""
    h = observed(buckets)
    h.arrive(3, 1.0)
    h.complete(3, 100, 50)
    rate = np.zeros(buckets.count)
    rate[3] = 7.0
    demand = h.at(rate, 2.0)

    assert demand.total_rate == 7.0
    assert demand.input_tokens.tolist() == [100.0]
