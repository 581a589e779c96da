"""How the loops of the control plane are."""

from gateway.routing.fleet import Fleet
from gateway.telemetry.loops import Loops
from gateway.telemetry.metrics import Metrics


def test_a_failure_is_told_until_the_loop_succeeds() -> None:
    """The last error of a loop stands until it did its work; the number of failures stays."""
    loops = Loops()
    loops.good("planning", 100.0)
    loops.failed("planning", "no answer")
    assert loops.figures()["planning"] == {
        "good_at_s": 100.0,
        "failures": 1,
        "error": "no answer",
    }
    loops.good("planning", 110.0)
    assert loops.figures()["planning"] == {"good_at_s": 110.0, "failures": 1, "error": None}


def test_a_loop_that_never_succeeded_has_no_time() -> None:
    """Metrics show no time of success that never was."""
    metrics = Metrics(Fleet.of({}))
    metrics.loops.failed("scrape", "no answer")
    metrics.loops.good("probes", 7.0)
    page = metrics.text().decode()
    assert 'cuvee_loop_last_success_timestamp_seconds{loop="probes"} 7' in page
    assert 'cuvee_loop_last_success_timestamp_seconds{loop="scrape"}' not in page
    assert 'cuvee_loop_failing{loop="scrape"} 1' in page
    assert 'cuvee_loop_failures_total{loop="scrape"} 1' in page


def test_a_loop_that_ends_is_shown_no_more() -> None:
    """What runs no more has no age."""
    loops = Loops()
    loops.good("cluster", 1.0)
    loops.forget("cluster")
    assert loops.figures() == {}
