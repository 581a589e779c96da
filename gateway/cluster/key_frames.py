"""What the keys of clients have used at several gateways, and how much each may let in until they
speak again. Pure.

Each gateway tells its sums some ten times a second. What another one has let in since it last told
is not known; so between two exchanges a gateway takes at most 1/(2 G) of what is left of a limit,
for G gateways: together they stay below the limit even if all are flooded at the same moment, and
one that is alone in being used gets 99 of 100 within two seconds. One request, and one of any
tokens that are left, may always pass, or the last of a limit could never be used: so much, at most,
may be too much at each other gateway.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from gateway.access.key_board import (
    ALL_REQUESTS,
    ALL_TOKENS,
    CELLS,
    MAY_REQUESTS,
    MAY_TOKENS,
    MAY_UNDER_WAY,
    REQUESTS,
    REQUESTS_BEFORE,
    TOKENS,
    TOKENS_BEFORE,
    TOKENS_THEN,
    TOLD_S,
    UNDER_WAY,
    WINDOW,
    WINDOW_S,
    KeyBoard,
)
from planner.sizes import FloatArray

FRESH_S = 5.0  # a gateway that told nothing for so long has nothing under way
COUNTS_S = 3 * WINDOW_S  # and after this time nothing of its minutes counts
SUMS = (REQUESTS, REQUESTS_BEFORE, TOKENS, TOKENS_BEFORE, UNDER_WAY)

KeySums = tuple[float, float, float, float, float]  # as SUMS


class KeyFrame(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway tells. at_s: Unix time. window: minute of Unix time. uses: by name of the
    key. day: of UTC; usd: dollars in it, by name. busy: seconds that its requests have had backends
    since it started, by pool."""

    at_s: float
    window: float
    uses: dict[str, KeySums] = {}
    day: float = 0.0
    usd: dict[str, float] = {}
    busy: dict[str, float] = {}


class KeyLimits:
    """The limits of all keys as arrays, by slot; infinite without one."""

    def __init__(self, slots: int) -> None:
        self.requests = np.full(slots, np.inf)
        self.tokens = np.full(slots, np.inf)
        self.under_way = np.full(slots, np.inf)

    def __repr__(self) -> str:
        return f"<KeyLimits of {np.isfinite(self.requests).sum()} keys>"


class SharedKeys:
    """The board of one gateway, as arrays, beside what others tell."""

    def __init__(self, board: KeyBoard) -> None:
        cells: Any = np.frombuffer(board.memory, dtype=np.float64)
        self._cells = cells.reshape(board.slots, board.workers + 1, CELLS)
        self._own, self._others = self._cells[:, :-1], self._cells[:, -1]

    def __repr__(self) -> str:
        return f"<SharedKeys of {len(self._cells)} slots>"

    def told(self, names: Mapping[str, int], now_s: float) -> KeyFrame:
        """What this gateway tells. names: slots by name."""
        window = now_s // WINDOW_S
        sums = self._held(window)
        busy = {name: slot for name, slot in names.items() if sums[slot].any()}
        uses: dict[str, Any] = {name: tuple(sums[slot].tolist()) for name, slot in busy.items()}
        return KeyFrame(at_s=now_s, window=window, uses=uses)

    def hear(
        self,
        frames: Mapping[str, KeyFrame],
        names: Mapping[str, int],
        limits: KeyLimits,
        now_s: float,
    ) -> None:
        """Let the workers count what others have used, and bound what they may let in."""
        window = now_s // WINDOW_S
        others = np.zeros((len(self._cells), len(SUMS)))
        gateways = 1
        for frame in frames.values():
            fresh = now_s - frame.at_s < FRESH_S
            gateways += fresh
            for name, sums in frame.uses.items():
                slot = names.get(name)
                if slot is not None:
                    others[slot] += _in_window(frame, sums, window, fresh)
        self._others[:, SUMS] = others
        self._others[:, WINDOW] = window
        own = self._held(window)
        self._bound(own + others, limits, gateways, 1.0 - (now_s / WINDOW_S - window))
        self._others[:, TOLD_S] = now_s

    def used(self, now_s: float) -> FloatArray:
        """(slots, 3) requests and tokens of the last 60 s, and what is under way, everywhere."""
        window = now_s // WINDOW_S
        sums, others = self._held(window), self._others[:, SUMS]
        left = 1.0 - (now_s / WINDOW_S - window)
        if now_s - self._others[0, TOLD_S] < FRESH_S:
            sums = sums + others
        requests = sums[:, 0] + left * sums[:, 1]
        return np.stack([requests, sums[:, 2] + left * sums[:, 3], sums[:, 4]], axis=1)

    def _bound(self, used: FloatArray, limits: KeyLimits, gateways: int, left: float) -> None:
        """Write how far this gateway may go. used: by all, as SUMS. left: share of the last minute
        that still counts."""
        all_tokens = self._own[:, :, ALL_TOKENS].sum(axis=1)
        all_requests = self._own[:, :, ALL_REQUESTS].sum(axis=1)
        requests = limits.requests - used[:, 0] - left * used[:, 1]
        tokens = limits.tokens - used[:, 2] - left * used[:, 3]
        under_way = limits.under_way - used[:, 4]
        if gateways == 1:
            requests = tokens = under_way = np.full(len(used), np.inf)
        part = 1.0 if gateways == 1 else 1.0 / (2 * gateways)
        self._others[:, MAY_REQUESTS] = all_requests + _whole(requests, part)
        self._others[:, MAY_TOKENS] = all_tokens + np.maximum(0.0, tokens) * part
        self._others[:, MAY_UNDER_WAY] = used[:, 4] + _whole(under_way, part)
        self._others[:, TOKENS_THEN] = all_tokens

    def _held(self, window: float) -> FloatArray:
        """(slots, 5) sums over the workers of this gateway, as SUMS."""
        own = self._own
        this = own[:, :, WINDOW] >= window
        last = own[:, :, WINDOW] == window - 1.0
        sums = []
        for now, before in ((REQUESTS, REQUESTS_BEFORE), (TOKENS, TOKENS_BEFORE)):
            earlier = np.where(last, own[:, :, now], 0.0)
            sums.append(np.where(this, own[:, :, now], 0.0).sum(axis=1))
            sums.append(np.where(this, own[:, :, before], earlier).sum(axis=1))
        return np.stack([*sums, own[:, :, UNDER_WAY].sum(axis=1)], axis=1)


def _whole(left: FloatArray, part: float) -> FloatArray:
    """A part of what is left, in whole requests; one at least, if there is one."""
    found: FloatArray = np.where(left >= 1.0, np.maximum(1.0, np.floor(left * part)), 0.0)
    return found


def _in_window(frame: KeyFrame, sums: KeySums, window: float, fresh: bool) -> FloatArray:
    """Sums of another gateway as they count now: its minute may be the one before ours."""
    requests, requests_before, tokens, tokens_before, under_way = sums
    if frame.window < window:
        follows = frame.window == window - 1.0
        requests_before = requests if follows else 0.0
        tokens_before = tokens if follows else 0.0
        requests = tokens = 0.0
    flying = under_way if fresh else 0.0
    return np.array([requests, requests_before, tokens, tokens_before, flying])
