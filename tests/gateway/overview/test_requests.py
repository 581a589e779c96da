"""Single requests: a bounded sample, and each of them in words."""

from dataclasses import replace

import msgspec
import pytest

from gateway.overview.recorded import compared, recorded_view
from gateway.overview.request_memory import HOUR_S, LAST, SLOT_S, SLOTS, SLOWEST, RequestMemory
from gateway.overview.requests_view import explained, request_row
from gateway.telemetry.seen_request import SeenRequest

SEEN = SeenRequest(
    request_id="req-1", arrival_s=95.0, model="llama-3-8b", caller="ab12", endpoint="chat",
    stream=True, slo_class="default", bucket=5, outcome="ok", status=200, reason=None, retries=0,
    plan_id="p", pool="a10g", backend="a10g-0", decision="planned", estimated_input=300,
    estimated_output=120, input_tokens=310, cached_tokens=64, output_tokens=100, max_tokens=256,
    width=1, waited_s=None, ttft_s=0.4, tpot_s=0.05, duration_s=5.3, met="yes", slowness=0.45,
    sampled=True,
)  # fmt: skip


def seen(**fields):
    return msgspec.structs.replace(SEEN, **fields)


@pytest.fixture
def memory(buckets):
    made = RequestMemory()

    def add(*requests, at_s=1000.0):
        made.add(requests, at_s=at_s, now_s=100.0, buckets=buckets)
        return made

    return add


def words(one):
    return {name: text for name, text in one}  # noqa: C416 (pairs of lists)


def test_the_last_and_the_slowest_are_kept_and_no_more(memory):
    """Whatever comes."""
    made = memory(*(seen(request_id=str(n), slowness=n / 1000) for n in range(3 * LAST)))

    assert len(made.last) == LAST
    assert made.last[0].request.request_id == str(3 * LAST - 1)
    assert len(made.slowest) == SLOWEST
    assert made.slowest[0].request.slowness == (3 * LAST - 1) / 1000
    assert made.last[0].at_s == 995.0, "the time of day at which it came"


def test_a_slow_one_that_no_sample_chose_is_no_part_of_the_shares(memory):
    made = memory(seen(), seen(sampled=False, slowness=9.0), seen(pool=None, backend=None))

    assert [one.request.slowness for one in made.slowest][:1] == [9.0]
    assert len(made.last) == 2
    assert made.shares(1000.0) == {(5, "a10g"): 1}


def test_what_is_old_is_forgotten(memory):
    memory(seen(), at_s=0.0)
    made = memory(seen(bucket=6), at_s=SLOT_S * SLOTS + 1)
    assert made.shares(SLOT_S * SLOTS + 1) == {(6, "a10g"): 1}

    made = memory(at_s=HOUR_S + 100)
    assert [one.request.bucket for one in made.slowest] == [6]
    assert memory(at_s=2 * HOUR_S).slowest == []


def test_other_buckets_have_other_shares(memory, buckets):
    made = memory(seen())
    other = replace(buckets, classes=(*buckets.classes, replace(buckets.classes[0], name="b")))

    made.add([], at_s=1001.0, now_s=101.0, buckets=other)

    assert made.shares(1001.0) == {}
    assert len(made.last) == 1


def test_a_receipt_in_words(memory, plan):
    """What was believed, decided and promised, and what came of it."""
    [one] = memory(seen(plan_id=plan.plan_id)).last

    told = words(explained(one, plan))

    assert told["Asked"] == "chat of llama-3-8b as a stream, at most 256 tokens"
    assert told["Promise"] == "class default: the first token within 2 s, then 100 ms a token"
    assert told["Believed"].startswith("300 tokens in, 120 out: bucket llama-3-8b in ")
    assert told["Decided"].startswith("a10g-0: a pool that the plan gives this size; the plan")
    assert "first token after 400 ms, 50 ms a token, 5.3 s in all, 45 %" in told["Took"]
    assert told["Really"] == "310 tokens in, 64 of them from the prefix cache; 100 out"
    assert told["End"] == "200, answered whole; the promise was kept"
    assert "Queue" not in told
    msgspec.json.encode(request_row(one, plan))


@pytest.mark.parametrize(
    ("fields", "subject", "said"),
    [
        ({"waited_s": 1.25}, "Queue", "it waited 1.25 s for its turn"),
        ({"retries": 2}, "Again", "it was sent again 2 times: a backend failed or had no room"),
        ({"plan_id": "old"}, "Decided", "(plan old, which another one has replaced)"),
        ({"decision": "spill"}, "Decided", "another pool than planned"),
        ({"outcome": "shed", "status": 429, "reason": "saturated", "met": "refused"}, "End",
         "429, refused for lack of room (saturated)"),
        ({"outcome": "failed", "status": 502, "met": "no"}, "End", "; the promise was missed"),
        ({"bucket": -1, "slo_class": "gone"}, "Promise", "none (class gone)"),
        ({"slo_class": "best-effort"}, "Promise", "none (class best-effort)"),
        ({"width": 3}, "Asked", ", 3 sequences"),
    ],
)  # fmt: skip
def test_what_was_unusual_is_said(memory, plan, fields, subject, said):
    [one] = memory(seen(**fields)).last

    assert said in words(explained(one, plan))[subject]


def test_a_request_that_went_nowhere_has_no_decision(memory, plan):
    [one] = memory(
        seen(pool=None, backend=None, decision=None, input_tokens=None, output_tokens=None,
             ttft_s=None, tpot_s=None)
    ).last  # fmt: skip

    told = words(explained(one, plan))

    assert "Decided" not in told
    assert "Really" not in told


def test_a_request_is_found_by_its_id_and_compared(memory, plan):
    """What was estimated beside what came; of several sequences no ratio. The newest of an id."""
    made = memory(seen(), seen(output_tokens=240, plan_id=plan.plan_id), seen(request_id="other"))

    found = made.find("req-1")
    assert found is not None
    assert made.find("gone") is None
    rows = {row["what"]: row for row in recorded_view(found, plan)["compared"]}
    assert rows["output tokens"] == {
        "what": "output tokens", "expected": 120, "actual": 240, "ratio": 2.0,
    }  # fmt: skip
    assert rows["TTFT, s"] == {"what": "TTFT, s", "expected": 2.0, "actual": 0.4, "ratio": 0.2}
    assert rows["pool"]["expected"] not in (None, "")
    many = memory(seen(request_id="many", width=4)).find("many")
    assert {row["ratio"] for row in compared(many, plan)} == {None, 0.2, 0.5}
