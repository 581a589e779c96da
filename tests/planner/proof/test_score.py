"""What a play says about a class."""

import numpy as np
import pytest

from planner.model.buckets import SloClass
from planner.proof.score import WINDOW_REQUESTS, PlayedRequests, scores
from planner.slo import Slo

CLASSES = tuple(
    SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=1), name=name) for name in ("default", "batch")
)


def played(arrival_s, met, stay_s=10.0, slo_class=0):
    arrival_s = np.array(arrival_s, dtype=float)
    return PlayedRequests(
        slo_class=np.full(len(arrival_s), slo_class),
        met=np.array(met, dtype=bool),
        arrival_s=arrival_s,
        last_s=arrival_s + stay_s,
    )


def test_only_what_arrives_between_begin_and_end_counts():
    """Neither the time to settle nor what comes after the end."""
    (score,) = scores(played([0, 100, 200, 300], [0, 1, 1, 0]), CLASSES, begin_s=100, end_s=300)

    assert (score.met, score.requests, score.share) == (2, 2, 1.0)


def test_the_worst_minute_is_told():
    """Of the minutes with enough requests, the one that kept least."""
    arrival_s = np.linspace(0, 180, 3 * WINDOW_REQUESTS, endpoint=False)
    met = np.ones(len(arrival_s))
    met[WINDOW_REQUESTS : WINDOW_REQUESTS + 5] = 0

    (score,) = scores(played(arrival_s, met), CLASSES, begin_s=0, end_s=180)
    (few,) = scores(played(arrival_s[::10], met[::10]), CLASSES, begin_s=0, end_s=180)

    assert score.worst_window == pytest.approx(1 - 5 / WINDOW_REQUESTS)
    assert few.worst_window is None


def test_the_backlog_is_that_of_both_halves():
    """Requests in flight on average; one that was shed is in none."""
    requests = played([0.0, 100.0, 100.0], [1, 1, 0], stay_s=50.0)
    shed = PlayedRequests(
        slo_class=requests.slo_class, met=requests.met, arrival_s=requests.arrival_s,
        last_s=np.array([50.0, 150.0, np.nan]),
    )  # fmt: skip

    (score,) = scores(shed, CLASSES, begin_s=0, end_s=200)

    assert score.backlog == (0.5, 0.5)


def test_each_class_has_its_own_score():
    """And a class without a request has none."""
    one, other = played([1.0], [1]), played([2.0], [0], slo_class=1)
    both = PlayedRequests(
        slo_class=np.concatenate([one.slo_class, other.slo_class]),
        met=np.concatenate([one.met, other.met]),
        arrival_s=np.concatenate([one.arrival_s, other.arrival_s]),
        last_s=np.concatenate([one.last_s, other.last_s]),
    )

    found = {s.slo_class.name: s.share for s in scores(both, CLASSES, begin_s=0, end_s=10)}

    assert found == {"default": 1.0, "batch": 0.0}
