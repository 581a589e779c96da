"""Enforces the limits of keys before a request is dispatched, and corrects them after. Pure.

A minute is a window that slides over two counters, this minute's and a part of the last one's, so
that the sums of workers and of gateways can be added. No limit is exceeded by workers that decide
at the same time: each counts its request first and looks again then.
"""

from collections.abc import Callable
from math import ceil, inf
from struct import Struct
from typing import Any, Final

from gateway.access.charge import Charge
from gateway.access.key import AccessKey
from gateway.access.key_board import (
    ALL_REQUESTS,
    ALL_TOKENS,
    CELL_BYTES,
    CELLS,
    DAY,
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
    USD,
    WINDOW,
    WINDOW_S,
    KeyBoard,
)
from gateway.errors import LimitReached

DAY_S: Final = 86_400.0
FRESH_S: Final = 5.0  # for so long what was agreed with other gateways holds without another word
NEAR: Final = 1e-6  # rounding of sums
LEAST_S: Final = 1.0  # of `retry-after`, which has whole seconds
# How long it takes until a limit is free again, by seconds, of which there are at most two minutes.
RESETS: Final = [b"%ds" % s if s < 60 else b"%dm%ds" % (s // 60, s % 60) for s in range(122)]
# A limit is near, so that workers which decide at the same time may pass it together, if so many
# requests for each of them are left, or less than this share of the tokens.
NEAR_REQUESTS: Final = 2.0
NEAR_TOKENS: Final = 0.25
FIT: Final = ""  # the name of no limit
PART: Final = Struct("8d")  # the numbers of a worker's part
AGREED: Final = "gateways"


class KeyMeter:
    """The limits as one worker enforces them."""

    def __init__(self, board: KeyBoard, worker: int, wall_clock: Callable[[], float]) -> None:
        """worker: whose part of the board is written. wall_clock: Unix time, of which all gateways
        have about the same."""
        self._memory, self._cells = board.memory, board.cells
        # What is of all parts, in one call: compiled code pays as much for each single number.
        self._read: Callable[[Any, int], tuple[float, ...]] = PART.unpack_from
        self._write: Callable[..., None] = PART.pack_into
        self._stride = board.stride
        self._workers = board.workers
        self._part = worker * CELLS
        self._wall_clock = wall_clock
        # Of the key that was looked at last.
        self._left = 0.0  # share of the last minute that still counts
        self._requests = self._requests_before = self._tokens = self._tokens_before = 0.0
        self._under_way = self._all_requests = self._all_tokens = self._usd = 0.0
        self._may_requests = self._may_tokens = self._may_under_way = inf
        self._tokens_then = self._first_tokens = self._large_tokens = 0.0

    def __repr__(self) -> str:
        return f"<KeyMeter of {self._workers} workers>"

    def enter(self, key: AccessKey, tokens: int) -> Charge:
        """Count a request of this estimated size. Raises LimitReached, and counts nothing."""
        now_s = self._wall_clock()
        self._look(key, now_s)
        limit = self._excess(key, 1.0, float(tokens), 0.0)
        if limit is not FIT:
            raise self._refusal(key, limit, tokens, now_s)
        window = float(int(now_s / WINDOW_S))
        self._count(key, window, 1.0, tokens)
        if self._workers > 1 and self._is_near(key, tokens):
            self._look(key, now_s)
            limit = self._excess(key, 0.0, 0.0, float(tokens))
            if limit is not FIT:
                self._count(key, window, -1.0, -float(tokens))
                raise self._refusal(key, limit, tokens, now_s)
        else:
            self._requests += 1.0
            self._tokens += tokens
        return Charge(key, window, tokens, self._lines(key))

    def leave(self, charge: Charge) -> None:
        """A request has ended: what its estimate was too much does not count any more, and what it
        was too little counts from now on, however long ago it came. One that no backend has worked
        for does not count at all."""
        window = float(int(self._wall_clock() / WINDOW_S))
        part = self._own(charge.key, window)
        requests = 0.0 if charge.served else -1.0
        tokens = charge.used - charge.tokens
        age = window - charge.window
        now = 1.0 if age < 1.0 else 0.0
        before = 1.0 if 1.0 <= age < 2.0 else 0.0
        more, less = max(0.0, tokens), min(0.0, tokens)
        self._write(
            self._memory,
            CELL_BYTES * (charge.key.slot * self._stride + self._part),
            part[WINDOW],
            part[REQUESTS] + now * requests,
            part[REQUESTS_BEFORE] + before * requests,
            part[TOKENS] + more + now * less,
            part[TOKENS_BEFORE] + before * less,
            max(0.0, part[UNDER_WAY] - 1.0),
            part[ALL_REQUESTS],
            part[ALL_TOKENS] + tokens,
        )

    def lines(self, key: AccessKey) -> bytes:
        """Header lines that tell the limits of a key, without a request."""
        self._look(key, self._wall_clock())
        return self._lines(key)

    def _look(self, key: AccessKey, now_s: float) -> None:
        """Read what a key has used until now, everywhere."""
        window = float(int(now_s / WINDOW_S))
        self._left = 1.0 - (now_s / WINDOW_S - window)
        self._requests = self._requests_before = self._tokens = self._tokens_before = 0.0
        self._under_way = self._all_requests = self._all_tokens = 0.0
        at = key.slot * self._stride
        for _ in range(self._workers):
            part = self._read(self._memory, CELL_BYTES * at)
            self._add(part, window)
            self._under_way += part[UNDER_WAY]
            self._all_requests += part[ALL_REQUESTS]
            self._all_tokens += part[ALL_TOKENS]
            at += CELLS
        cells = self._cells
        self._usd = 0.0
        if key.usd_per_day < inf and cells[at + DAY] == float(int(now_s / DAY_S)):
            self._usd = cells[at + USD]
        self._may_requests = self._may_tokens = self._may_under_way = inf
        told_s: float = cells[at + TOLD_S]
        if told_s > 0.0:  # others have been there at some time
            part = self._read(self._memory, CELL_BYTES * at)
            self._add(part, window)
            if now_s - told_s < FRESH_S:
                self._under_way += part[UNDER_WAY]
                self._may_requests = cells[at + MAY_REQUESTS]
                self._may_tokens = cells[at + MAY_TOKENS]
                self._may_under_way = cells[at + MAY_UNDER_WAY]
                self._tokens_then = cells[at + TOKENS_THEN]
                self._first_tokens = cells[at + FIRST_TOKENS]
                self._large_tokens = cells[at + LARGE_TOKENS]

    def _add(self, part: tuple[float, ...], window: float) -> None:
        """Add what stands in one part about this minute and the last one."""
        written = part[WINDOW]
        if written >= window:
            self._requests += part[REQUESTS]
            self._requests_before += part[REQUESTS_BEFORE]
            self._tokens += part[TOKENS]
            self._tokens_before += part[TOKENS_BEFORE]
        elif written == window - 1.0:
            self._requests_before += part[REQUESTS]
            self._tokens_before += part[TOKENS]

    def _used_requests(self) -> float:
        return self._requests + self._left * max(0.0, self._requests_before)

    def _used_tokens(self) -> float:
        return max(0.0, self._tokens + self._left * self._tokens_before)

    def _excess(self, key: AccessKey, requests: float, tokens: float, counted: float) -> str:
        """The limit for which so much more is too much; `FIT` if there is none. counted: tokens of
        the request that are counted already."""
        if self._usd >= key.usd_per_day:
            return "usd_per_day"
        if self._under_way + requests > key.concurrency + NEAR:
            return "concurrency"
        if self._used_requests() + requests > key.requests_per_minute + NEAR:
            return "requests_per_minute"
        if self._used_tokens() + tokens > key.tokens_per_minute + NEAR:
            return "tokens_per_minute"
        if (
            self._all_requests + requests > self._may_requests + NEAR
            or self._under_way + requests > self._may_under_way + NEAR
            or (
                self._all_tokens + tokens > self._may_tokens + NEAR
                and not self._is_first(tokens + counted, counted)
            )
        ):
            return AGREED
        return FIT

    def _is_near(self, key: AccessKey, tokens: float) -> bool:
        """Whether other workers may have taken what this request was let in for."""
        requests = NEAR_REQUESTS * self._workers
        return (
            self._under_way + requests > min(key.concurrency, self._may_under_way)
            or self._used_requests() + requests > key.requests_per_minute
            or self._all_requests + requests > self._may_requests
            or self._used_tokens() + tokens > (1.0 - NEAR_TOKENS) * key.tokens_per_minute
            or self._all_tokens + 4.0 * tokens > self._may_tokens
        )

    def _is_first(self, tokens: float, counted: float) -> bool:
        """Whether a request is the first one since the gateways spoke, and may take all that is
        left: else one that is larger than this gateway's part had no chance."""
        first = self._all_tokens - counted <= self._tokens_then + NEAR
        return first and (tokens <= self._first_tokens or tokens > self._large_tokens)

    def _count(self, key: AccessKey, window: float, requests: float, tokens: float) -> None:
        part = self._own(key, window)
        self._write(
            self._memory,
            CELL_BYTES * (key.slot * self._stride + self._part),
            part[WINDOW],
            part[REQUESTS] + requests,
            part[REQUESTS_BEFORE],
            part[TOKENS] + tokens,
            part[TOKENS_BEFORE],
            part[UNDER_WAY] + requests,
            part[ALL_REQUESTS] + requests,
            part[ALL_TOKENS] + tokens,
        )

    def _own(self, key: AccessKey, window: float) -> tuple[float, ...]:
        """What stands in this worker's part, as it is in this minute."""
        part = self._read(self._memory, CELL_BYTES * (key.slot * self._stride + self._part))
        written = part[WINDOW]
        if written >= window:
            return part
        requests = tokens = 0.0
        if written == window - 1.0:
            requests, tokens = part[REQUESTS], part[TOKENS]
        return (window, 0.0, requests, 0.0, tokens, *part[UNDER_WAY:])

    def _refusal(self, key: AccessKey, limit: str, tokens: float, now_s: float) -> LimitReached:
        name = f"Rate limit reached for key `{key.name}`"
        if limit == "usd_per_day":
            wait_s = DAY_S - now_s % DAY_S
            text = (
                "You exceeded your current quota: the key "
                f"`{key.name}` has used its ${key.usd_per_day:g} of this day (UTC)."
            )
            kind = "insufficient_quota"
            return LimitReached(text, resource=kind, retry_after_s=ceil(wait_s))
        if limit == "requests_per_minute":
            most, used = key.requests_per_minute, self._used_requests()
            wait_s = self._wait_s(most, self._requests, self._requests_before, 1.0)
            text = (
                f"{name} on requests per min (RPM): Limit {most:.0f}, Used {used:.0f}, Requested 1."
            )
        elif limit == "tokens_per_minute":
            most, used = key.tokens_per_minute, self._used_tokens()
            wait_s = self._wait_s(most, self._tokens, self._tokens_before, tokens)
            text = (
                f"{name} on tokens per min (TPM): Limit {most:.0f}, Used {used:.0f}, "
                f"Requested {tokens:.0f}."
            )
            if tokens > most:
                text = f"Request too large. {text}"
                return LimitReached(text, resource="tokens", retry_after_s=WINDOW_S, hopeless=True)
        else:
            wait_s = LEAST_S
            most = key.concurrency
            if limit == "concurrency":
                text = f"{name} on requests at the same time: Limit {most:.0f}."
            else:
                text = f"{name}: what is left of its limits is with other gateways for a moment."
        wait_s = max(LEAST_S, wait_s)
        text = f"{text} Please try again in {wait_s:.3g}s."
        kind = "tokens" if limit == "tokens_per_minute" else "requests"
        return LimitReached(text, resource=kind, retry_after_s=ceil(wait_s))

    def _wait_s(self, most: float, now: float, before: float, more: float) -> float:
        """Seconds until there is room for so much more: as much of the last minute, or then of this
        one, has slid out."""
        room = most - more
        if now <= room and before > 0.0:
            return max(0.0, self._left - (room - now) / before) * WINDOW_S
        if now <= 0.0:
            return 0.0
        return (self._left + 1.0 - max(0.0, room) / now) * WINDOW_S

    def _lines(self, key: AccessKey) -> bytes:
        """As OpenAI names them; the reset is when all is free again, if nothing more comes."""
        of_requests = RESETS[self._reset_s(self._requests, self._requests_before)]
        of_tokens = RESETS[self._reset_s(self._tokens, self._tokens_before)]
        requests = tokens = 0
        if key.requests_per_minute < inf:
            requests = max(0, int(key.requests_per_minute - self._used_requests() + NEAR))
        if key.tokens_per_minute < inf:
            tokens = max(0, int(key.tokens_per_minute - self._used_tokens() + NEAR))
            if key.requests_per_minute < inf:
                return key.limit_lines % (requests, of_requests, tokens, of_tokens)
            return key.limit_lines % (tokens, of_tokens)
        return key.limit_lines % (requests, of_requests) if key.limit_lines else b""

    def _reset_s(self, now: float, before: float) -> int:
        if now > 0.0:
            return _whole(self._left + 1.0)
        return _whole(self._left) if before > 0.0 else 0


def _whole(windows: float) -> int:
    """Seconds, rounded up: `ceil` is a call of Python's also in compiled code."""
    seconds = windows * WINDOW_S
    least = int(seconds)
    return least if least == seconds else least + 1
