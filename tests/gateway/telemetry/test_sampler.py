"""The few requests that a process tells of: the last ones, and the slowest beside their promise."""

from typing import Any

import pytest

from gateway.routing.endpoints import CHAT
from gateway.routing.observation import NO_BUCKET, Observation, Outcome
from gateway.telemetry.sampler import LAST, SLOWEST, RequestSampler
from gateway.telemetry.seen_request import LONGEST_ID
from gateway.telemetry.stats import Stats
from gateway.telemetry.stats_schema import MOST_SEEN, StatsDelta
from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo

BUCKETS = Buckets(
    classes=(
        SloClass(model="m", slo=Slo(ttft_s=1.0, tpot_s=0.1)),
        SloClass(model="m", slo=Slo(ttft_s=30.0, tpot_s=0.5), name="batch"),
    ),
    grid=Grid(input_edges=(1, 256), output_edges=(1, 128)),
)


def ended(number=0, **fields):
    told: dict[str, Any] = {
        "model": "m", "caller": "k", "endpoint": CHAT, "stream": True, "bucket": 0,
        "prompt_bytes": 400, "max_tokens": None, "estimated_input": 100, "estimated_output": 50,
        "exact_input": False, "outcome": Outcome.OK, "status": 200, "duration_s": 2.0,
        "ttft_s": 0.3, "tpot_s": 0.02, "input_tokens": 110, "output_tokens": 11, "pool": "a",
        "backend": "a-0", "request_id": b"%d" % number,
    } | fields  # fmt: skip
    return Observation(**told)


def drained(*observations):
    stats = Stats(BUCKETS)
    for one in observations:
        stats.observed(one)
    return stats, stats.drain().seen


def test_few_are_told_however_many_there_were():
    """The last ones in their order, and the slowest besides."""
    slow = {3, 50, 51, 70, 90}
    sent = [ended(n, duration_s=60.0 + n if n in slow else 1.0) for n in range(1000)]

    stats, seen = drained(*sent)

    last = [one for one in seen if one.sampled]
    assert [int(one.request_id) for one in last] == list(range(1000 - LAST, 1000))
    assert {int(one.request_id) for one in seen if not one.sampled} == {50, 51, 70, 90}
    assert len(seen) == LAST + SLOWEST
    assert stats.drain().seen == []


def test_slow_is_long_beside_the_promise_and_not_by_itself():
    """A long answer takes long; that of a patient class may."""
    long_answer = ended(1, duration_s=10.0, output_tokens=100)
    patient = ended(2, duration_s=12.0, bucket=1)
    late = ended(3, duration_s=3.0, output_tokens=1)

    _, seen = drained(long_answer, patient, late)

    slowness = {int(one.request_id): one.slowness for one in seen}
    assert slowness[1] == pytest.approx(10.0 / (1.0 + 0.1 * 99), abs=1e-3)
    assert slowness[2] == pytest.approx(12.0 / (30.0 + 0.5 * 10), abs=1e-3)
    assert slowness[3] == 3.0
    assert max(slowness, key=lambda number: slowness[number] or 0) == 3


def test_one_that_is_last_and_slowest_is_told_once():
    _, seen = drained(ended(1), ended(2))

    assert [one.request_id for one in seen] == ["1", "2"]


def test_one_without_a_bucket_has_no_slowness_and_an_id_is_cut():
    _, [seen] = drained(ended(bucket=NO_BUCKET, request_id=b"x" * 200))

    assert seen.slowness is None
    assert seen.met == ""
    assert seen.request_id == "x" * LONGEST_ID


def test_what_was_counted_by_other_buckets_is_dropped():
    """Its number may be that of no class any more."""
    stats = Stats(BUCKETS)
    stats.observed(ended(bucket=1))
    stats.configure(Buckets(classes=BUCKETS.classes[:1], grid=BUCKETS.grid))

    assert stats.drain().seen == []


def test_the_slowest_of_any_order_are_kept():
    sampler = RequestSampler()
    for number in (5, 1, 9, 7, 3, 8, 2, 6, 4, 0):
        sampler.add(ended(number, duration_s=float(number)), 1.0, 0.1)

    _, slowest = sampler.take()

    assert sorted(int(one.request_id) for one, _ in slowest) == [6, 7, 8, 9]


def test_what_nobody_takes_is_bounded_and_old_numbers_of_buckets_are_dropped():
    delta = StatsDelta()
    for _ in range(100):
        _, seen = drained(*(ended(n) for n in range(20)))
        delta.add(StatsDelta(seen=seen))
    assert len(delta.seen) == MOST_SEEN

    delta.forget_buckets()
    assert delta.seen == []
