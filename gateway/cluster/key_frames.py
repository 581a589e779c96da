"""What the keys of clients have used at several gateways, and how much each may let in until they
speak again. Pure.

Each gateway tells its sums some ten times a second, and with them a claim: how much more it may let
in until it tells again. What others have claimed is not there for it, so that together they keep a
limit even if one is flooded and not heard of for a while. Redis puts what is told in one order: of
two gateways that claim the same at one moment the later one reads the claim of the earlier, and
takes less. Claims are a part of what is left, so they shrink with it, and one gateway that is used
alone gets all within some exchanges. One request may pass where a part would be less than one, and
one that is larger than any part, or the last of a limit could never be used: so much, at most, may
be too much at each other gateway.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from gateway.access.key_board import (
    ALL_REQUESTS,
    ALL_TOKENS,
    CELLS,
    FIRST_TOKENS,
    LARGE_TOKENS,
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
KeyClaims = tuple[float, float, float]  # requests, tokens, requests under way


class KeyFrame(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway tells. at_s: Unix time. window: minute of Unix time. uses, claims: by name
    of the key, of those that are used anywhere; of others each claims what `idle_claims` says. day:
    of UTC; usd: dollars in it, by name. busy: seconds that its requests have had backends since it
    started, by pool."""

    at_s: float
    window: float
    uses: dict[str, KeySums] = {}
    claims: dict[str, KeyClaims] = {}
    day: float = 0.0
    usd: dict[str, float] = {}
    busy: dict[str, float] = {}


class KeyLimits:
    """The limits of all keys, by slot; infinite without one."""

    def __init__(self, slots: int) -> None:
        """most: (slots, 3) requests, tokens, requests under way."""
        self.most: FloatArray = np.full((slots, 3), np.inf)

    def __repr__(self) -> str:
        return f"<KeyLimits of {np.isfinite(self.most).any(axis=1).sum()} keys>"

    def idle_claims(self, gateways: int) -> FloatArray:
        """(slots, 3) what each gateway claims of a key that nobody uses: that to which the claims
        of all come, if each is a part of what the others leave."""
        return _whole(self.most / (gateways + 1))


class SharedKeys:
    """The board of one gateway, as arrays, beside what others tell."""

    def __init__(self, board: KeyBoard) -> None:
        cells: Any = np.frombuffer(board.memory, dtype=np.float64)
        self._cells = cells.reshape(board.slots, board.workers + 1, CELLS)
        self._own, self._others = self._cells[:, :-1], self._cells[:, -1]
        self._claims: FloatArray = np.zeros((board.slots, 3))
        self._active: Any = np.zeros(board.slots, dtype=bool)
        # When it last told.
        self._spent: FloatArray = np.zeros((board.slots, len(SUMS)))
        self._then = self._totals()

    def __repr__(self) -> str:
        return f"<SharedKeys of {len(self._cells)} slots>"

    def told(self, names: Mapping[str, int], now_s: float) -> KeyFrame:
        """What this gateway tells. names: slots by name."""
        window = now_s // WINDOW_S
        sums = self._held(window)
        self._spent = sums
        self._active |= sums.any(axis=1)
        told = {name: slot for name, slot in names.items() if self._active[slot]}
        uses: dict[str, Any] = {name: tuple(sums[slot].tolist()) for name, slot in told.items()}
        claims: dict[str, Any] = {
            name: tuple(np.where(np.isfinite(self._claims[slot]), self._claims[slot], 0.0).tolist())
            for name, slot in told.items()
        }
        self._then = self._totals()
        return KeyFrame(at_s=now_s, window=window, uses=uses, claims=claims)

    def hear(
        self,
        frames: Mapping[str, KeyFrame],
        names: Mapping[str, int],
        limits: KeyLimits,
        now_s: float,
    ) -> None:
        """Let the workers count what others have used, and bound what they may let in; after
        `told`."""
        window = now_s // WINDOW_S
        others = np.zeros((len(self._cells), len(SUMS)))
        fresh = [frame for frame in frames.values() if now_s - frame.at_s < FRESH_S]
        gateways = 1 + len(fresh)
        idle = limits.idle_claims(gateways)
        claimed = np.where(np.isfinite(idle), idle, 0.0) * len(fresh)
        for frame in frames.values():
            heard = now_s - frame.at_s < FRESH_S
            for name, sums in frame.uses.items():
                slot = names.get(name)
                if slot is not None:
                    others[slot] += _in_window(frame, sums, window, heard)
                    if heard:
                        claim = frame.claims.get(name, NO_CLAIMS)
                        claimed[slot] += np.array(claim) - np.where(
                            np.isfinite(idle[slot]), idle[slot], 0.0
                        )
        self._others[:, SUMS] = others
        self._others[:, WINDOW] = window
        left = 1.0 - (now_s / WINDOW_S - window)
        used = self._spent + others
        counted = np.stack(
            [used[:, 0] + left * used[:, 1], used[:, 2] + left * used[:, 3], used[:, 4]], axis=1
        )
        # What was not told is what others take it for.
        self._claims = np.where(self._active[:, None], self._claims, np.minimum(self._claims, idle))
        self._active = counted.any(axis=1)
        rest = np.maximum(0.0, limits.most - counted - claimed)
        self._bound(rest, counted, limits, gateways)
        part = _whole(rest / gateways)
        self._claims = np.where(self._active[:, None], part, idle)
        self._others[:, TOLD_S] = now_s

    def _bound(
        self, rest: FloatArray, counted: FloatArray, limits: KeyLimits, gateways: int
    ) -> None:
        """Write how far this gateway may go from where it was when it told. rest: (slots, 3) that
        nobody has used or claimed."""
        may = np.minimum(self._claims, rest)
        one = np.array([1.0, 0.0, 1.0])
        may = np.where((may < one) & (rest >= one), one, may)
        if gateways == 1:
            may = rest = np.full_like(rest, np.inf)
        requests, tokens = self._then
        self._others[:, MAY_REQUESTS] = requests + may[:, 0]
        self._others[:, MAY_TOKENS] = tokens + may[:, 1]
        self._others[:, MAY_UNDER_WAY] = counted[:, 2] + may[:, 2]
        self._others[:, TOKENS_THEN] = tokens
        self._others[:, FIRST_TOKENS] = rest[:, 1]
        self._others[:, LARGE_TOKENS] = limits.most[:, 1] / (gateways + 1)

    def _totals(self) -> tuple[FloatArray, FloatArray]:
        """(slots,) requests and tokens since the start of the array, over the workers here."""
        own = self._own
        return own[:, :, ALL_REQUESTS].sum(axis=1), own[:, :, ALL_TOKENS].sum(axis=1)

    def used(self, now_s: float) -> FloatArray:
        """(slots, 3) requests and tokens of the last 60 s, and what is under way, everywhere."""
        window = now_s // WINDOW_S
        sums, others = self._held(window), self._others[:, SUMS]
        left = 1.0 - (now_s / WINDOW_S - window)
        if now_s - self._others[0, TOLD_S] < FRESH_S:
            sums = sums + others
        requests = sums[:, 0] + left * sums[:, 1]
        return np.stack([requests, sums[:, 2] + left * sums[:, 3], sums[:, 4]], axis=1)

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


NO_CLAIMS = (0.0, 0.0, 0.0)


def _whole(claims: FloatArray) -> FloatArray:
    """Claims of which those of requests are whole."""
    found: FloatArray = claims.copy()
    found[:, 0], found[:, 2] = np.floor(claims[:, 0]), np.floor(claims[:, 2])
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
