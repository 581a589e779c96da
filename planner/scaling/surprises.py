"""Quantiles of how far demand went beyond what was expected of it, by horizon.

Each error is counted once, in a histogram that fades; before any was seen the histogram is wide.
Knows no forecast.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.scaling.season import same_shape
from planner.sizes import FloatArray, IntArray

BINS = 241
# Bins are narrow near 0 and wide far away: from −11 to 80, as demand doubles more often than it
# vanishes within minutes.
EDGES: FloatArray = np.sinh(np.linspace(-3.0, 5.0, BINS + 1)) * 1.1
HALF_LIFE_S = 3 * 86400.0
ASSUMED = 60.0  # errors that the assumed histogram weighs as much as


class Surprises:
    """Histograms of errors, of G series at H horizons, in units that the caller chooses."""

    def __init__(self, assumed: FloatArray) -> None:
        """assumed: (G, H) standard deviation of the errors before any is known."""
        centre = (EDGES[1:] + EDGES[:-1]) / 2
        shape = np.exp(-0.5 * np.square(centre / assumed[..., None])) * np.diff(EDGES)
        self._seen = ASSUMED * shape / shape.sum(axis=-1, keepdims=True)
        self._last_s: float | None = None

    def add(self, horizons: Sequence[int], error: FloatArray) -> None:
        """Count the errors of one moment, (G, N) at N horizons, which are given by number."""
        bins: IntArray = np.searchsorted(EDGES, error) - 1
        series = np.arange(len(error))[:, None]
        self._seen[series, np.array(horizons), np.clip(bins, 0, BINS - 1)] += 1.0

    def fade(self, now_s: float) -> None:
        """Make what was counted earlier weigh less."""
        if self._last_s is not None and now_s > self._last_s:
            self._seen *= 0.5 ** ((now_s - self._last_s) / HALF_LIFE_S)
        self._last_s = now_s

    def quantile(self, share: float) -> FloatArray:
        """(G, H) the error that this share of them stays below, linear within a bin."""
        summed = np.cumsum(self._seen, axis=-1)
        wanted = share * summed[..., -1:]
        at = np.minimum((summed < wanted).sum(axis=-1), BINS - 1)[..., None]
        count = np.take_along_axis(self._seen, at, axis=-1)
        before = np.take_along_axis(summed, at, axis=-1) - count
        part = np.clip((wanted - before) / np.maximum(count, 1e-12), 0.0, 1.0)
        return np.asarray((EDGES[at] + part * (EDGES[at + 1] - EDGES[at]))[..., 0])

    def state(self) -> dict[str, Any]:
        """What was counted, as plain values."""
        return {"seen": np.round(self._seen, 4).tolist(), "last_s": self._last_s}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what was counted earlier. Raises InvalidValue for another shape."""
        self._seen = same_shape(state["seen"], self._seen, "seen")
        self._last_s = None if state["last_s"] is None else float(state["last_s"])
