"""How many of a backend's answers failed lately. Pure: time is an argument."""

from typing import Final

WINDOW_S: Final = 20.0
# Fewer failures, or fewer answers of its peers, say nothing about a backend.
LEAST: Final = 5.0
# A backend stands out if it fails this share of its requests, and so many times the share of its
# peers: what one client's bad requests do, they do to all backends.
SHARE: Final = 0.2
TIMES: Final = 3.0


class FailureRate:
    """Failed and all answers of the last `WINDOW_S`: a window that slides over two counters, this
    one's and a part of the last one's."""

    __slots__ = ("_all", "_all_before", "_failed", "_failed_before", "_window")

    def __init__(self) -> None:
        self._window = 0
        self._failed = self._all = self._failed_before = self._all_before = 0

    def __repr__(self) -> str:
        return f"<FailureRate {self._failed} of {self._all}>"

    def add(self, failed: int, now_s: float) -> None:
        """Note an answer. failed: 1 if it failed, else 0."""
        window = int(now_s / WINDOW_S)
        if window != self._window:
            self._slide(window)
        self._failed += failed
        self._all += 1

    def counts(self, now_s: float) -> tuple[float, float]:
        """Failed and all answers."""
        window = int(now_s / WINDOW_S)
        if window != self._window:
            self._slide(window)
        left = 1.0 - (now_s / WINDOW_S - window)
        return self._failed + left * self._failed_before, self._all + left * self._all_before

    def _slide(self, window: int) -> None:
        follows = window == self._window + 1
        self._failed_before, self._all_before = (self._failed, self._all) if follows else (0, 0)
        self._failed, self._all, self._window = 0, 0, window


def stands_out(failed: float, answers: float, peers: tuple[float, float]) -> bool:
    """Whether a backend fails much more of its requests than its peers. peers: failed and all
    answers of the others in its pool."""
    theirs, all_theirs = peers
    return (
        failed >= LEAST
        and all_theirs >= LEAST
        and failed >= SHARE * answers
        and failed * all_theirs >= TIMES * theirs * answers
    )
