"""Records add up: percentiles, attainment with its interval, groups and rates."""

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from loadtest.replay import report
from loadtest.replay.record import Record
from planner.slo import Slo

SLO = Slo(ttft_s=1.0, tpot_s=0.1)


def record(**fields: Any) -> Record:
    fields_of_a_good_request: dict[str, Any] = {
        "index": 0,
        "arrival_s": 0.0,
        "sent_s": 0.0,
        "e2e_s": 2.0,
        "input_tokens": 10,
        "output_tokens": 5,
        "status": 200,
        "ttft_s": 0.5,
        "tpot_s": 0.05,
    }
    return Record(**(fields_of_a_good_request | fields))


def test_percentiles_are_numpys():
    """The known values count, interpolated linearly; nothing known is None."""
    values = [0.1, 0.2, 0.3, 0.4, 10.0]

    percentiles = report.percentiles([None, *values, None])

    assert percentiles is not None
    expected = np.percentile(values, [50, 90, 99])
    assert (percentiles.p50_s, percentiles.p90_s, percentiles.p99_s) == pytest.approx(
        tuple(expected)
    )
    assert report.percentiles([None]) is None


def test_failed_requests_do_not_meet_the_promise():
    """A request with an error is not met and not in the percentiles, however fast it failed."""
    records = [
        record(),
        record(error="truncated", ttft_s=0.001),
        record(ttft_s=1.5),
        record(tpot_s=0.2),
        record(tpot_s=None, output_tokens=1),
        record(ttft_s=None, tpot_s=None, error="429", status=429),
    ]

    summary = report.summarise(records, SLO)

    assert summary.attainment is not None
    assert (summary.attainment.met, summary.attainment.share) == (2, 2 / 6)
    assert summary.attainment.low < 2 / 6 < summary.attainment.high
    assert summary.ttft == report.percentiles([0.5, 1.5, 0.5, 0.5])
    assert (summary.requests, summary.failed) == (6, 2)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(
    successes: int, trials: int, low: float, high: float
):
    """The interval reproduces a published comparison of methods."""
    assert report.wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_holds_the_share_and_stays_a_share(counts: tuple[int, int]):
    """For any counts 0 ≤ low ≤ share ≤ high ≤ 1, and mirrored counts have mirrored intervals."""
    successes, trials = counts
    low, high = report.wilson_interval(successes, trials)

    assert 0.0 <= low <= successes / trials <= high <= 1.0
    mirrored = report.wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_requests_are_counted_by_pool_bucket_and_cell():
    """Shares are of all requests, the largest first, those without a receipt under no name."""
    records = [
        record(pool="a", bucket="small", decision="planned"),
        record(pool="b", bucket="small", decision="spill", ttft_s=9.0),
        record(pool="b", bucket="large", decision="planned"),
        record(error="429 queue_full", status=429),
    ]

    summary = report.summarise(records, SLO)

    pools = [(group.name, group.requests, group.share, group.met) for group in summary.pools]
    assert pools == [("b", 2, 0.5, 1), ("", 1, 0.25, 0), ("a", 1, 0.25, 1)]
    assert [(p.name, p.requests) for p in summary.buckets] == [("small", 2), ("", 1), ("large", 1)]
    assert summary.decisions[0].name == "planned"
    assert [(p.name, p.share) for p in summary.errors] == [("429 queue_full", 0.25)]
    assert summary.cells == (
        ("", "", 1),
        ("large", "b", 1),
        ("small", "a", 1),
        ("small", "b", 1),
    )


def test_rates_are_over_the_time_from_first_sent_to_last_ended():
    """Completed requests and received tokens per second of the whole exchange."""
    records = [
        record(sent_s=1.0, e2e_s=2.0, output_tokens=30),
        record(sent_s=2.0, e2e_s=9.0, output_tokens=70, arrival_s=1.75),
        record(sent_s=3.0, e2e_s=1.0, output_tokens=0, error="timeout"),
    ]

    summary = report.summarise(records)

    assert summary.duration_s == 10.0
    assert summary.requests_per_s == pytest.approx(0.2)
    assert summary.output_tokens_per_s == pytest.approx(10.0)
    assert summary.attainment is None
    assert summary.pools[0].met is None


def test_nothing_sent_is_a_summary_too():
    """An empty replay has no latencies, no rates and no attainment."""
    summary = report.summarise([], SLO)

    assert (summary.requests, summary.failed, summary.duration_s) == (0, 0, 0.0)
    assert (summary.ttft, summary.tpot, summary.attainment) == (None, None, None)


def test_the_summary_is_plain_json():
    """What `--json` writes can be read back with every figure in it."""
    summary = report.summarise([record(pool="a", bucket="b"), record(error="truncated")], SLO)

    plain = json.loads(json.dumps(report.to_json(summary)))

    assert plain["ttft"] == {"p50_s": 0.5, "p90_s": 0.5, "p99_s": 0.5}
    assert plain["attainment"]["slo"] == {"ttft_s": 1.0, "tpot_s": 0.1, "attainment": 0.99}
    assert plain["errors"][0]["name"] == "truncated"
    assert plain["cells"] == [["", "", 1], ["b", "a", 1]]


def test_tables_say_what_the_summary_says():
    """The terminal shows percentiles, attainment with its interval, errors and pools."""
    summary = report.summarise([record(pool="a100"), record(error="truncated")], SLO)
    text = io.StringIO()

    Console(file=text, width=120).print(*report.tables(summary))

    shown = text.getvalue()
    assert "500.0 / 500.0 / 500.0 ms" in shown
    assert "50.00% (95% interval" in shown
    assert "truncated" in shown
    assert "a100" in shown
    assert "Decisions" not in shown
