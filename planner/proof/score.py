"""What one play says about each SLO class: how many requests met their SLO, and when.

Must not know what was played, nor with which router.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.model.buckets import SloClass
from planner.sizes import FloatArray, IntArray

WINDOW_S = 60.0  # an operator looks at minutes
WINDOW_REQUESTS = 20  # in a window with fewer, one request decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One SLO class in one play: the number of its requests, and how many met their SLO.

    worst_window: the least share of any minute with enough requests, `None` without such a minute.
    backlog: requests in flight on average over the first and over the second half of the play;
    `None` where that is not known.
    """

    slo_class: SloClass
    met: int
    requests: int
    worst_window: float | None = None
    backlog: tuple[float, float] | None = None

    @property
    def share(self) -> float:
        """The share of requests that met their SLO; 1 if there were none."""
        return self.met / self.requests if self.requests else 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlayedRequests:
    """The N requests of one play. slo_class: (N,) index of the class. met: (N,) whether each met
    its SLO. arrival_s: (N,). last_s: (N,) when each ended; nan for one that was shed.
    """

    slo_class: IntArray
    met: NDArray[np.bool_]
    arrival_s: FloatArray
    last_s: FloatArray


def scores(
    played: PlayedRequests, classes: tuple[SloClass, ...], *, begin_s: float, end_s: float
) -> Iterator[Score]:
    """A score for each class that has requests. Counted are those that arrive from begin_s on and
    before end_s."""
    counted = (played.arrival_s >= begin_s) & (played.arrival_s < end_s)
    middle_s = (begin_s + end_s) / 2
    for number in np.unique(played.slo_class[played.slo_class >= 0]).tolist():
        mine = played.slo_class == number
        rows = mine & counted
        met = played.met[rows]
        yield Score(
            slo_class=classes[number],
            met=int(met.sum()),
            requests=len(met),
            worst_window=_worst_window(played.arrival_s[rows] - begin_s, met),
            backlog=(
                _in_flight(played, mine, begin_s, middle_s),
                _in_flight(played, mine, middle_s, end_s),
            ),
        )


def _worst_window(arrival_s: FloatArray, met: NDArray[np.bool_]) -> float | None:
    window = (arrival_s // WINDOW_S).astype(np.int64)
    count = np.bincount(window)
    enough = count >= WINDOW_REQUESTS
    if not enough.any():
        return None
    kept = np.bincount(window, met)
    return float((kept[enough] / count[enough]).min())


def _in_flight(
    played: PlayedRequests, rows: NDArray[np.bool_], begin_s: float, end_s: float
) -> float:
    """How many of these requests were in flight on average between two times."""
    first_s = np.clip(played.arrival_s[rows], begin_s, end_s)
    last_s = np.clip(np.nan_to_num(played.last_s[rows], nan=begin_s), begin_s, end_s)
    return float(np.maximum(last_s - first_s, 0.0).sum()) / (end_s - begin_s)
