"""Engines that are slower than their profiles, found from requests that ended, in virtual time."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from gateway.control.pace import (
    FADE_S,
    HIGHEST,
    KEPT,
    LEAST,
    LOWEST,
    WATCHED_S,
    Paces,
    centre,
    median,
    ratio,
)
from gateway.routing.backend import Backend, Lease
from planner.engine.profiles import find_profile
from planner.model.pool import Pool
from planner.proof.simulate import simulate
from planner.proof.timeline import FirstCome
from planner.slo import Slo
from planner.traffic.trace import Trace

SLO = Slo(ttft_s=2.0, tpot_s=0.06)
PROFILE = find_profile("llama-3-8b/A10G", Path())
POOL = Pool(name="a", model="m", profile=PROFILE, usd_per_hour=1.0)
MINUTES_5 = 300.0
CHAT, DOCUMENTS, CODE = (300.0, 150.0), (1500.0, 200.0), (1500.0, 15.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One request of a play: when it ended, and the stay that the gateway tells of it."""

    at_s: float
    stay: tuple[str, str, float, float, int, int, int]


class Held:
    """A lease on one of several engines, as the simulator wants it."""

    def __init__(self, number, lease):
        self.backend = number
        self.lease = lease
        self.prefilled = lease.prefilled
        self.release = lease.release


def play(load, *, slower=(1.0,) * 4, sizes=CHAT, seed=7):
    """What ends in five minutes on backends of which each takes so many times as long. load: of
    the rate at which these engines just keep the promise."""
    rng = np.random.default_rng(seed)
    count = 40000
    inputs = np.clip(np.rint(rng.lognormal(np.log(sizes[0]), 0.8, count)), 2, 6000)
    outputs = np.clip(np.rint(rng.lognormal(np.log(sizes[1]), 0.7, count)), 1, 1500)
    takes_s = 1 / PROFILE.takes(inputs, outputs, SLO).rate.clip(1e-3)
    backends_s = takes_s.mean() / sum(1 / factor for factor in slower)
    arrival_s = np.cumsum(rng.exponential(backends_s / load, count))
    n = int(np.searchsorted(arrival_s, MINUTES_5))
    trace = Trace(
        arrival_s=arrival_s[:n], input_tokens=inputs[:n], output_tokens=outputs[:n], key=("",) * n
    )
    backends = [Backend(name=f"a-{k}", pool="a", url=f"http://a:{k}") for k in range(len(slower))]
    held: dict[int, Held] = {}

    def route(request, now_s):
        number = min(range(len(backends)), key=lambda k: backends[k].in_flight)
        lease = Lease(
            backends[number], own=0, slots=(0.01,), prefill_s=0.1, bucket=0, plan_id=None,
            decision="planned",
        )  # fmt: skip
        return held.setdefault(request, Held(number, lease))

    result = simulate(trace, [PROFILE.slowed(factor) for factor in slower], FirstCome(route))
    stays_s = result.ttft_s + np.nan_to_num(result.tpot_s) * (trace.output_tokens - 1)
    ended = [
        Ended(
            at_s=float(trace.arrival_s[k] + stays_s[k]),
            stay=(
                "a", f"a-{held[k].backend}", float(stays_s[k]), held[k].lease.in_flight,
                int(inputs[k]), 0, int(outputs[k]),
            ),
        )
        for k in range(n)
    ]  # fmt: skip
    return sorted((one for one in ended if one.at_s < MINUTES_5), key=lambda one: one.at_s)


def told(paces, ended, *, begin_s=0.0):
    """Tell all of a play as it goes, with a review every ten seconds; return what was said."""
    said, due_s = [], begin_s + 10.0
    for one in ended:
        while begin_s + one.at_s >= due_s:
            said += paces.review(due_s)
            due_s += 10.0
        paces.add([one.stay], begin_s + one.at_s)
    return said + paces.review(begin_s + MINUTES_5)


def n_star(profile, sizes):
    """What one backend of the profile holds of requests of one size."""
    found = profile.capacity(np.array([sizes[0]]), np.array([sizes[1]]), SLO).n_star[0]
    assert (
        1
        < found
        < PROFILE.capacity(
            np.array([sizes[0]]), np.array([sizes[1]]), replace(SLO, tpot_s=9.0)
        ).n_star[0]
    )  # the promise is what bounds it, and not the memory
    return found


@pytest.mark.parametrize("sizes", [CHAT, DOCUMENTS])
@pytest.mark.parametrize("load", [0.3, 0.55, 0.8])
def test_engines_a_fifth_slower_are_found_in_five_minutes(load, sizes):
    """In the middle one of three plays the pace is within 3 %, and n* of what plans count with
    within 5 % of the slower engine's; chance alone moves a single one further."""
    plays = []
    for seed in (7, 8, 9):
        paces = Paces([POOL])
        said = told(paces, play(load, slower=(1.2,) * 4, sizes=sizes, seed=seed))
        assert len([line for line in said if "times as long as its profile" in line]) == 1
        plays.append((paces.found[0].pace, paces.corrected([POOL])[0].profile))
    pace, corrected = sorted(plays, key=lambda one: one[0] or 0.0)[1]

    assert pace == pytest.approx(1.2, rel=0.03)
    assert n_star(corrected, sizes) == pytest.approx(n_star(PROFILE.slowed(1.2), sizes), rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.55, 0.8])
def test_prompts_that_wait_for_the_token_budget_are_no_slow_engine(load):
    """Long prompts and short answers: within 7 %, and never faster than the profile by more than
    chance, since a plan would be too small for that."""
    paces = Paces([POOL])
    said = told(paces, play(load, sizes=CODE))

    pace = paces.found[0].pace
    assert pace is not None
    assert 0.98 <= pace <= 1.07
    assert said == []


def test_engines_that_seem_faster_are_believed_when_it_lasts():
    """A plan that counts with a speed that is not there is too small; while sizes change, engines
    look faster than they are. One slow review takes it back."""
    paces = watched(steady(0.8, 60))
    paces.review(60.0)
    early = paces.corrected([POOL])[0].profile
    for minute in range(2, 13):
        for stay, at_s in steady(0.8, 60, at_s=60.0 * minute):
            paces.add([stay], at_s)
        paces.review(60.0 * (minute + 1))
    late = paces.corrected([POOL])[0].profile
    for stay, at_s in steady(1.0, 60, at_s=900.0):
        paces.add([stay], at_s)
    paces.review(970.0)
    again = paces.corrected([POOL])[0].profile
    own_s, early_s, late_s, again_s = (
        float(profile.times.decode_s(4.0, 500.0)) for profile in (PROFILE, early, late, again)
    )

    assert early_s == own_s
    assert late_s / own_s == pytest.approx(0.8, rel=0.05)
    assert again_s == pytest.approx(own_s, rel=0.06)


@pytest.mark.parametrize("sizes", [CHAT, DOCUMENTS])
@pytest.mark.parametrize("load", [0.3, 0.55, 0.8])
def test_engines_as_their_profile_are_left_alone(load, sizes):
    """The pace stays within 3 % of 1, and nothing is said."""
    paces = Paces([POOL])
    said = told(paces, play(load, sizes=sizes))

    assert paces.found[0].pace == pytest.approx(1.0, abs=0.03)
    assert said == []


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_one_slow_backend_is_told_from_a_slow_pool(load):
    """It is named once, and the pool's pace stays within 5 % of 1."""
    paces = Paces([POOL])
    said = told(paces, play(load, slower=(1.0, 1.5, 1.0, 1.0)))
    found = paces.found[0]

    assert found.pace == pytest.approx(1.0, abs=0.05)
    assert found.slow == ("a-1",)
    assert [line.split(":")[0] for line in said] == ["backend a-1 is slow"]


def test_a_repaired_pool_is_found_too():
    """After five minutes the old pace is forgotten; it was said when it came and when it went."""
    paces = Paces([POOL])
    first = told(paces, play(0.5, slower=(1.3,) * 4))
    assert paces.found[0].pace == pytest.approx(1.3, rel=0.04)
    second = told(paces, play(0.5, seed=8), begin_s=MINUTES_5)

    assert paces.found[0].pace == pytest.approx(1.0, abs=0.04)
    assert [len(first), len(second)] == [1, 1]
    assert "again" in second[0]


def steady(pace, count, *, at_s=0.0, backend="a-0", pool="a"):
    """Alone in the engine, one after another, each so many times as long as expected."""
    alone_s = float(PROFILE.times.prefill_s(500.0)) + 100 * float(
        PROFILE.times.decode_s(1.0, 550.0)
    )
    return [((pool, backend, pace * alone_s, 1.0, 500, 0, 100), at_s + k) for k in range(count)]


def watched(rows, pools=(POOL,)):
    paces = Paces(pools)
    for stay, at_s in rows:
        paces.add([stay], at_s)
    return paces


def test_a_handful_of_requests_is_no_evidence():
    """Until enough have ended, and over a minute, the profile stands."""
    few = watched(steady(1.5, int(LEAST) // 2))
    said = few.review(70.0)
    assert (few.found[0].pace, said) == (None, [])
    early = watched(steady(1.5, 40))
    said = early.review(40.0)
    assert (early.found[0].pace, said) == (None, [])

    assert few.corrected([POOL]) == early.corrected([POOL]) == (POOL,)


def test_many_backends_with_few_requests_each_are_evidence_together():
    """The pool has a pace where none of its backends has one."""
    rows = [row for k in range(8) for row in steady(1.4, 10, backend=f"a-{k}")]
    paces = watched(rows)
    paces.review(60.0)

    assert paces.found[0].backends == {}
    assert paces.found[0].pace == pytest.approx(1.4, rel=0.05)


def test_what_is_planned_with_is_bounded():
    """An engine ten times slower is another one than was paid for; the alarm says the rest."""
    paces = watched(steady(10.0, 100))
    paces.review(100.0)
    [corrected] = paces.corrected([POOL])
    bound = PROFILE.slowed(HIGHEST)

    assert paces.found[0].pace == HIGHEST
    assert corrected.profile.times.decode_s(4.0, 500.0) == bound.times.decode_s(4.0, 500.0)


def test_stalled_streams_do_not_make_a_backend_slow():
    """One request in twenty that takes a minute is a fault, and not the pace of the engine."""
    rows = [
        ((*stay[:2], 60.0, *stay[3:]), at_s) if k % 20 == 7 else (stay, at_s)
        for k, (stay, at_s) in enumerate(steady(1.0, 200))
    ]
    paces = watched(rows)
    paces.review(200.0)

    assert paces.found[0].pace == pytest.approx(1.0, abs=0.05)


def test_a_pool_without_requests_keeps_its_pace_for_a_while():
    """It fades in hours, so that engines that were repaired while unused are tried again."""
    paces = watched(steady(2.0, 100))
    paces.review(100.0)
    known = paces.found[0].pace
    for minute in range(1, 601):
        paces.review(100.0 + 60.0 * minute)
        if minute == FADE_S / 60:
            [later] = paces.corrected([POOL])
    [much_later] = paces.corrected([POOL])
    slow_s, own_s = (p.times.decode_s(1.0, 500.0) for p in (later.profile, PROFILE))

    assert slow_s / own_s == pytest.approx(known**0.5, rel=0.02)
    assert much_later.profile.times.decode_s(1.0, 500.0) / own_s == pytest.approx(1.0, abs=0.02)


def test_a_pool_keeps_what_is_known_with_its_profile():
    """Another profile under the same name begins anew, and is never planned at the old pace."""
    other = replace(POOL, profile=PROFILE.slowed(0.5))
    paces = watched(steady(1.5, 100))
    paces.review(100.0)
    assert paces.corrected([other]) == (other,)
    paces.configure([POOL])
    assert paces.corrected([POOL]) != (POOL,)
    paces.configure([other])
    paces.configure([POOL])

    assert paces.corrected([POOL]) == (POOL,)


def test_the_plan_is_outpaced_until_it_is_made_anew():
    """By more than noise only."""
    paces = watched(steady(1.03, 100))
    paces.review(100.0)
    assert not paces.outpaced
    for stay, at_s in steady(1.3, 400, at_s=200.0):
        paces.add([stay], at_s)
    paces.review(600.0)
    assert paces.outpaced
    paces.settle()

    assert not paces.outpaced


def test_backends_that_left_are_forgotten():
    """And requests of pools that are not configured are dropped."""
    paces = watched(steady(1.5, 100) + steady(1.0, 100, backend="a-1") + steady(9.0, 9, pool="b"))
    paces.keep(["a-1"])
    paces.review(100.0)

    assert set(paces.found[0].backends) == {"a-1"}
    assert [found.pool for found in paces.found] == ["a"]
    assert paces.found[0].figures()["slow"] == ()


def test_a_slow_backend_is_named_once_while_it_gets_few_requests():
    """That nothing is known of it for some minutes is no recovery; a measured one is said."""
    rows = steady(1.0, 200) + steady(1.0, 200, backend="a-1") + steady(1.6, 200, backend="a-2")
    paces = watched(sorted(rows, key=lambda row: row[1]))
    said = [paces.review(200.0)]
    for pace, begin_s in ((1.0, 1100.0), (1.6, 1500.0)):
        for stay, at_s in steady(1.0, 300, at_s=begin_s) + steady(pace, 2, backend="a-2"):
            paces.add([stay], at_s)
        said.append(paces.review(begin_s + 300.0))
    assert paces.found[0].slow == ("a-2",)
    for stay, at_s in steady(1.0, 300, at_s=1900.0) + steady(1.0, 300, at_s=1900.0, backend="a-2"):
        paces.add([stay], at_s)
    said.append(paces.review(2200.0))

    assert [[line[:18] for line in lines] for lines in said] == [
        ["backend a-2 is slo"], [], [], ["backend a-2 is as "]
    ]  # fmt: skip


def test_memory_is_bounded():
    """Of a backend that ends thousands of requests the last ones are kept."""
    paces = watched(steady(1.0, 3 * KEPT) + steady(1.2, KEPT, at_s=3.0 * KEPT))
    paces.review(4.0 * KEPT)

    assert paces.found[0].requests <= KEPT
    assert paces.found[0].pace == pytest.approx(1.2, rel=0.05)


def test_the_middle_of_paces():
    """A median that is a value, and a mean of those near it."""
    one = np.ones(4)

    assert median(np.array([1.0, 9.0]), np.ones(2)) == 1.0
    assert median(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0])) == 3.0
    assert centre(np.array([1.0, 1.02, 0.98, 1.5]), one) == pytest.approx(1.0)
    assert ratio(np.array([2.0, 2.0, 2.0, 90.0]), 2 * one, one) == pytest.approx(1.125)


def test_answers_at_once_are_as_fast_as_can_be_told():
    """An engine that is a double answers within a step of the clock. Some of them do not."""
    paces = Paces([POOL])
    for number in range(int(4 * WATCHED_S)):
        stay_s = 0.001 * (number % 7 == 0)
        stays = [("a", f"a-{k}", stay_s, 1.0, 2000, 0, 800) for k in range(4)]
        paces.add(stays, number * 0.5)
    said = paces.review(2 * WATCHED_S)
    (found,) = paces.found

    assert found.pace == LOWEST
    assert found.slow == ()
    assert len(said) == 1
