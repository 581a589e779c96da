"""What the page shows: figures that agree with each other, and words for what is wrong."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from gateway.journal.entry import OTHERS, CallerBill, Entry, Happened, ModelBill, PlanNote
from gateway.overview.bill import bill_view
from gateway.overview.decisions import decisions
from gateway.overview.fleet_state import Witness, backend_rows, pool_counts, shown_url, states
from gateway.overview.plan_view import bucket_cost, plan_view, planned_shares, sizes_view
from gateway.overview.promises import Kept, promises, refusals, served_by_pool
from gateway.overview.record import RECENT_S, SAMPLE_S, SAMPLES, Counts, HourRecord, MomentGauges
from gateway.overview.summary import class_rows, pool_rows
from gateway.routing.membership import FINISHING, draining
from gateway.telemetry.engine_reading import EngineFigures, EngineReading
from gateway.telemetry.stats_schema import PoolStats, WorkerGauges
from planner.model.buckets import BEST_EFFORT
from planner.model.plan import Unserved

GAUGES = MomentGauges(
    usd_planned=3.0, usd_running=4.0, usd_single=None, queued=2, in_flight=7
)  # fmt: skip
MODEL = "llama-3-8b"


def ended(yes=0, no=0, refused=0, shed="", tokens=0):
    stats = PoolStats.none()
    ends = {"yes": yes, "no": no, "refused": refused}
    stats.ends = {("ok", 200, met, "planned"): n for met, n in ends.items() if n}
    stats.output_tokens = tokens
    if refused:
        stats.sheds = {shed: refused}
    return stats


# Promises.


def test_classes_are_summed_over_pools_and_best_effort_promises_nothing():
    by_class = {
        ("m", "default", "a"): ended(yes=8, no=1, tokens=90),
        ("m", "default", ""): ended(refused=1, shed="saturated"),
        ("m", BEST_EFFORT, "a"): ended(yes=4),
        ("m", "", ""): ended(yes=3),  # the model left the configuration under them
    }

    found = promises(by_class)

    assert found["m", "default"] == Kept(8, 1, 1, 10, 0, 90)
    assert found["m", "default"].attainment == 0.8
    assert found["m", BEST_EFFORT].requests == 4
    assert found["m", BEST_EFFORT].attainment is None
    assert set(found) == {("m", "default"), ("m", BEST_EFFORT)}
    assert served_by_pool(by_class) == {("m", "a"): 13}
    assert refusals(by_class, {(404, "model_not_found"): 2}) == {
        "saturated": 1,
        "404 model_not_found": 2,
    }


# The last hour.


def counts(requests, refused=0):
    return Counts(
        classes={("m", "default"): Kept(requests, 0, refused, requests + refused, 10 * requests)},
        pools={("m", "a"): requests},
        refusals={"saturated": refused} if refused else {},
    )


def test_a_sample_says_what_came_since_the_one_before():
    record = HourRecord()
    record.sample(1000.0, counts(5), GAUGES)
    assert record.last is None

    record.sample(1000.0 + SAMPLE_S, counts(25, refused=10), GAUGES)

    row = record.rows[0]
    assert record.last is row
    assert row["classes"] == {"m · default": [20, 0, 10]}
    assert row["rate"] == pytest.approx(30 / SAMPLE_S)
    assert row["tokens"] == pytest.approx(200 / SAMPLE_S)
    assert (row["refused"], row["planned"], row["single"]) == (10, 3.0, None)


def test_recent_is_what_came_in_five_minutes_and_an_hour_is_kept():
    record = HourRecord()
    for number in range(SAMPLES + 50):
        record.sample(number * SAMPLE_S, counts(number), GAUGES)

    seconds, came = record.recent((SAMPLES + 49) * SAMPLE_S, counts(SAMPLES + 49))

    assert seconds == RECENT_S
    assert came.classes["m", "default"].requests == RECENT_S / SAMPLE_S
    assert len(record.rows) == SAMPLES
    assert record.rows[-1]["t"] == (SAMPLES + 49) * SAMPLE_S
    assert record.number == SAMPLES + 49


def test_the_record_of_an_hour_is_small():
    """It is sent to each page that is opened: two classes, in bytes."""
    record = HourRecord()
    for number in range(SAMPLES + 1):
        kept = {("llama-3-8b", name): Kept(number * 90, number, 0) for name in ("default", "b")}
        record.sample(1.7e9 + number * SAMPLE_S, Counts(classes=kept), GAUGES)

    assert len(msgspec.json.encode(record.rows)) < 70_000


# The fleet.


def test_each_state_has_its_reason(fleet):
    down, asleep, silent, full, cold, resting, drained, *_ = fleet.backends
    down.probed(False)
    asleep.asleep = True
    silent.silent = True
    full.in_flight = 3
    full.refused(100.0)
    cold.warm_up(100.0, 30.0)
    fleet.apply(draining(fleet.membership, {drained.name: FINISHING}))
    gauge = WorkerGauges(0, 0, 0, 0, resting=(resting.name,))

    found = states(fleet, 100.5, {0: gauge, 1: WorkerGauges(0, 0, 0, 0)})

    assert found[down.name] == ("down", "its last probe failed")
    assert found[asleep.name][0] == "asleep"
    assert found[silent.name] == ("resting", "none of its streams goes on")
    assert found[full.name][0] == "full"
    assert found[cold.name][0] == "warming"
    assert "30 s" in found[cold.name][1]
    assert found[resting.name][0] == "resting"
    assert "1 of 2 workers" in found[resting.name][1]
    assert found[drained.name][0] == "draining"
    assert found[fleet.backends[-1].name] == ("serving", "")

    pools = pool_counts(fleet, found)
    assert sum(n for own in pools.values() for n in own["states"].values()) == len(fleet.backends)


def test_a_backend_shows_all_that_is_known_of_it_and_no_password(fleet):
    first, second = fleet.backends[:2]
    first.url = "http://user:secret@a:1/v1"
    state = EngineReading(
        running=3, waiting=1, kv_used=0.25, kv_tokens=1000, hits=30.0, queries=120.0,
        sleeping=False, at_s=0.0,
    )  # fmt: skip
    witness = Witness(
        drains=[{"backend": second.name, "why": "a notice", "ends_in_s": 90.0}],
        engines=[
            EngineFigures(
                backend=first.name, pool=first.pool, state=state, foreign=2, age_s=1.0, failures=0
            )
        ],
        paces={first.name: 1.2345},
        failures={(first.name, "timeout"): 2},
    )

    rows = backend_rows(fleet, states(fleet, 0.0, {}), witness)

    assert rows[0]["url"] == "http://a:1/v1"
    assert "secret" not in str(rows)
    assert rows[0]["pace"] == 1.234
    assert rows[0]["engine"]["hit_share"] == 0.25
    assert rows[0]["engine"]["foreign"] == 2
    assert rows[0]["failures"] == {"timeout": 2}
    assert rows[1]["why"].startswith("a notice")
    assert rows[2]["engine"] is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a:1", "http://a:1"), ("https://u:p@a/b@c", "https://a/b@c"),
        ("http://p@[::1]:9/", "http://[::1]:9/"), ("nothing", "nothing"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_what_identifies_us(url, shown):
    assert shown_url(url) == shown


# The plan and the map of sizes.


def test_costs_of_buckets_come_to_the_bill(plan, pools):
    cost = bucket_cost(plan, pools)

    assert float(cost.sum()) == pytest.approx(plan.usd_per_hour)
    assert (cost[np.asarray(plan.rate) == 0] == 0).all()
    view = plan_view(plan, pools, "because")
    assert sum(one["usd_per_hour"] for one in view["costs"]) == pytest.approx(
        plan.usd_per_hour, abs=1e-3
    )
    dearest = [one["usd_per_hour"] for one in view["costs"]]
    assert dearest == sorted(dearest, reverse=True)
    assert view["reason"] == "because"
    assert "weights" not in view


def test_the_map_has_each_share_and_what_really_came(plan, pools):
    real = np.zeros(plan.buckets.count)
    empty = next(b for b, rate in enumerate(plan.rate) if rate == 0)
    real[empty] = 0.5
    left = Unserved(bucket=3, rate=1.0, reason="too long")

    went = {(empty, plan.pools[0]): 3, (empty, plan.pools[2]): 1}

    view = sizes_view(replace(plan, unserved=(left,)), pools, real, went, seconds=300.0)

    cells = {row[0]: row for row in view["cells"]}
    assert cells[empty][2] == 0.5
    assert cells[empty][4:] == [[[0, 0.75], [2, 0.25]], 4]
    for bucket, row in cells.items():
        assert row[1] == pytest.approx(plan.rate[bucket], abs=1e-5)
        assert sum(share for _, share in row[3]) in (0, pytest.approx(1.0, abs=0.01))
    assert view["unserved"] == {"3": "too long"}
    assert view["classes"][0]["ttft_s"] == 2.0
    assert sum(planned_shares(plan, pools).values()) == pytest.approx(1.0, abs=0.001)
    msgspec.json.encode([view, plan_view(plan, pools, "")])


def test_a_pool_shows_what_the_plan_wants_beside_what_is(plan, pools, fleet):
    rows = pool_rows(
        plan,
        [(pool, pool.gpu) for pool in pools],
        counts=pool_counts(fleet, states(fleet, 0.0, {})),
        running=dict.fromkeys(plan.pools, 3),
        shares=planned_shares(plan, pools),
        served={(MODEL, pools[0].name): 30, (MODEL, pools[1].name): 10},
        paces={pools[0].name: 1.1},
    )

    assert [row["planned"] for row in rows] == list(plan.backends)
    assert (rows[0]["real_share"], rows[1]["real_share"]) == (0.75, 0.25)
    assert rows[0]["states"] == {"serving": 3}
    assert rows[0]["pace"] == 1.1


def test_requests_without_a_promise_are_a_row_without_a_share(buckets):
    came = {
        (MODEL, "default"): Kept(9, 1, 0, 10),
        (MODEL, BEST_EFFORT): Kept(requests=5),
    }

    promised, free = class_rows(buckets.classes, came, 10.0)

    assert (promised["attainment"], promised["rate"], promised["target"]) == (0.9, 1.0, 0.99)
    assert (free["attainment"], free["target"], free["rate"]) == (None, None, 0.5)


# The history.


def brief(plan_id, usd, rate, **backends):
    return PlanNote(
        plan_id=plan_id, objective="provision", usd_per_hour=usd, backends=backends,
        requests_per_s=rate,
    )  # fmt: skip


FIRST, SECOND = brief("1", 2.0, 3.0, a=2), brief("2", 7.0, 9.0, a=2, b=1)
UNDER = Happened(seconds=60, requests=100, kept=97, missed=3, usd_running=0.03, usd_planned=0.03)


def entry(kind, **more):
    return Entry(at="2026-11-28T12:00:00Z", kind=kind, **more)


def test_a_decision_has_its_cause_its_change_and_its_effect():
    certified = msgspec.structs.replace(FIRST, attainment=0.993, target=0.99)
    rows = decisions(
        [
            entry("start", plan=FIRST),
            entry("looks", cause="kept: it is the best one", looks=4),
            entry("result", before=certified, happened=UNDER),
            entry("plan", cause="more requests", plan=SECOND, before=certified),
            entry("hour", happened=UNDER),
        ],
        SECOND,
        Happened(seconds=5, requests=7),
    )

    plan, looks, start = rows
    assert (plan["kind"], plan["why"], plan["in_force"]) == ("plan", "more requests", True)
    assert (plan["rate_before"], plan["rate"]) == (3.0, 9.0)
    assert (plan["usd_before"], plan["usd"]) == (2.0, 7.0)
    assert plan["changes"] == [["b", 0, 1]]
    assert plan["happened"]["requests"] == 7
    assert looks["looks"] == 4
    assert start["attainment"] == 0.993, "its certificate came later"
    assert (start["happened"]["requests"], start["happened"]["attainment"]) == (100, 0.97)
    assert not start["in_force"]


def test_what_an_earlier_run_decided_keeps_its_own_effect():
    """A journal on the disk has several runs; one that was killed has told no result."""
    rows = decisions(
        [
            entry("start", plan=FIRST),
            entry("stop", before=FIRST, happened=UNDER),
            entry("start", plan=FIRST),
            entry("start", plan=SECOND),
            entry("scale", cause="b is to have 2", backends={"b": 2}),
        ],
        SECOND,
        Happened(seconds=5, requests=7),
    )

    scale, second, killed, stop, first = rows
    assert scale["backends"] == {"b": 2}
    assert (second["in_force"], second["happened"]["requests"]) == (True, 7)
    assert killed["happened"] is None
    assert stop["kind"] == "stop"
    assert first["happened"]["requests"] == 100


def test_only_the_last_decisions_are_shown():
    many = [entry("looks", cause=str(n)) for n in range(30)]

    assert [row["why"] for row in decisions(many, most=2)] == ["29", "28"]


# The bill.


def hour(usd, caller="c", single=2.0):
    return Happened(
        seconds=3600, requests=10, kept=10, usd_running=usd, usd_planned=usd, usd_single=single,
        models={"m": ModelBill(requests=10, input_tokens=100, output_tokens=50, usd=usd)},
        callers={caller: CallerBill(requests=10, input_tokens=100, output_tokens=50, usd=usd)},
    )  # fmt: skip


def test_the_bill_is_summed_by_model_and_caller():
    entries = [entry("hour", happened=hour(1.0)), entry("start"), entry("hour", happened=hour(3.0))]
    hits = [
        {"caller": "c", "pool": "a", "prompt_tokens": 100, "cached_tokens": 25},
        {"caller": "c", "pool": "b", "prompt_tokens": 100, "cached_tokens": 75},
    ]

    view = bill_view(entries, hour(0.5, OTHERS), "2026-11-28T12:30:00Z", hits)

    assert view["complete"] == 2
    assert [one["usd_running"] for one in view["hours"]] == [0.5, 3.0, 1.0]
    assert view["hours"][0]["to"] == "2026-11-28T12:30:00Z"
    assert view["total"]["usd_running"] == view["models"][0]["usd"] == 4.5
    assert view["total"]["usd_single"] == 6.0
    assert [(one["name"], one["usd"]) for one in view["callers"]] == [("c", 4.0), (OTHERS, 0.5)]
    assert [one["cached"] for one in view["callers"]] == [0.5, None]


def test_what_is_not_known_of_one_hour_is_not_known_of_all():
    view = bill_view([entry("hour", happened=hour(1.0, single=None))], hour(1.0), "now", [])

    assert view["total"]["usd_single"] is None
    assert bill_view([], None, "now", [])["total"]["usd_single"] is None
