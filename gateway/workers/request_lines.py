"""Makes the lines of requests as the formatters of `gateway/logs` would, at a tenth of the cost.

A line of the `logging` library takes a record, a formatter and a handler: 15 µs, half of a whole
request. Here the words of a line, which many lines share, are made once, the rest is put between
them in one step, and lines of many requests are handed over together. Compiled.
"""

import json
import time
from collections.abc import Callable
from typing import Any, Final

from gateway.logs import PLAIN_SIGNS, LogWriter, word
from gateway.routing.observation import Observation

LOGGER: Final = "cuvee.requests"
MESSAGE: Final = "request"
LEVEL: Final = "info"
JSON: Final = "json"
# The fields of a line after the arrival and the id: words, then numbers, which may be `None`.
WORDS: Final = (
    "model", "class", "caller", "endpoint", "stream", "sequences", "outcome", "status", "reason",
    "slo_met", "attempts", "plan", "pool", "backend", "decision",
)  # fmt: skip
NUMBERS: Final = (
    "bucket", "estimated_input", "input_tokens", "cached_tokens", "estimated_output",
    "output_tokens", "max_tokens", "waited_s", "ttft_s", "tpot_s", "duration_s",
)  # fmt: skip
KNOWN: Final = 4096  # sets of words that are kept; then all are dropped
SHARP: Final = (",", ":")
MICRO: Final = 1_000_000
# Three digits each: formats with a width are calls of Python's also in compiled code.
DIGITS: Final = [f"{number:03d}" for number in range(1000)]
# Python writes a float below 0.0001 with an exponent.
SMALL_US: Final = 100


class RequestLines:
    """The lines of one process."""

    def __init__(self, writer: LogWriter) -> None:
        """writer: takes them, and says what they look like."""
        self._gather: Callable[[bytes, int], None] = writer.gather
        self._lines: list[str] = []
        self._json = writer.form == JSON
        self._texts: dict[tuple[Any, ...], str] = {}
        # What stands before each number, and in its place if there is none.
        self._names = [f',"{name}":' if self._json else f" {name}=" for name in NUMBERS]
        self._nones = [f"{name}null" if self._json else "" for name in self._names]
        self._second = self._arrived_second = -1
        self._now = self._arrived = ""  # a line until the fractions of these seconds
        self._before_id, self._before_words, self._end = "+00:00 request_id=", " ", "\n"
        process = f"[{writer.process}] " if writer.process else ""
        self._before_arrival = f" {LEVEL.upper()} {LOGGER} {process}{MESSAGE} arrived_at="
        if self._json:
            self._before_id, self._before_words, self._end = '+00:00","request_id":"', '",', "}\n"
            process = f'"process":"{writer.process}",' if writer.process else ""
            self._before_arrival = (
                f'Z","level":"{LEVEL}","logger":"{LOGGER}",{process}"message":"{MESSAGE}",'
                '"arrived_at":"'
            )

    def __repr__(self) -> str:
        return f"<RequestLines {'in JSON' if self._json else 'in words'}>"

    def write(
        self, now_s: float, arrived_at_s: float, ended: Observation, words: tuple[Any, ...]
    ) -> bool:
        """Make a line; `False` if it must be written in the slow way, for the signs in its id.

        now_s, arrived_at_s: Unix time. words: the values of `WORDS`.
        """
        request_id = ended.request_id
        if not request_id or request_id.translate(None, PLAIN_SIGNS):
            return False
        second = int(now_s)
        if second != self._second:
            self._second, self._now = second, self._until(second)
        microseconds = int(arrived_at_s * 1e6 + 0.5)
        arrived = microseconds // MICRO
        if arrived != self._arrived_second:
            self._arrived_second = arrived
            self._arrived = f"{self._before_arrival}{_utc(arrived)}."
        microseconds -= arrived * MICRO
        text = self._texts.get(words)
        if text is None:
            text = self._remember(words)
        line = (
            f"{self._now}{DIGITS[int((now_s - second) * 1e3)]}"
            f"{self._arrived}{DIGITS[microseconds // 1000]}{DIGITS[microseconds % 1000]}"
            f"{self._before_id}{request_id.decode('ascii')}{self._before_words}{text}"
            f"{self._names[0]}{ended.bucket}"
            f"{self._names[1]}{ended.estimated_input}"
            f"{self._number(2, ended.input_tokens)}"
            f"{self._number(3, ended.cached_tokens)}"
            f"{self._names[4]}{ended.estimated_output}"
            f"{self._number(5, ended.output_tokens)}"
            f"{self._number(6, ended.max_tokens)}"
            f"{self._seconds(7, ended.waited_s)}"
            f"{self._seconds(8, ended.ttft_s)}"
            f"{self._seconds(9, ended.tpot_s)}"
            f"{self._seconds(10, ended.duration_s)}{self._end}"
        )
        self._lines.append(line)
        return True

    def flush(self) -> None:
        """Hand over the lines that were made since the last call."""
        lines = self._lines
        if lines:
            self._lines = []
            self._gather("".join(lines).encode(), len(lines))

    def _number(self, at: int, value: int | None) -> str:
        return self._nones[at] if value is None else f"{self._names[at]}{value}"

    def _seconds(self, at: int, value: float | None) -> str:
        """To the microsecond, as Python writes such a float."""
        if value is None:
            return self._nones[at]
        us = int(value * 1e6 + 0.5)
        if us < SMALL_US:
            return f"{self._names[at]}{us / 1e6!r}"
        rest = us % MICRO
        name, whole = self._names[at], us // MICRO
        told = f"{name}{whole}.{DIGITS[rest // 1000]}{DIGITS[rest % 1000]}"
        if us % 10 == 0:
            told = told.rstrip("0")
            if rest == 0:
                return f"{told}0"
        return told

    def _until(self, second: int) -> str:
        """A line until the fraction of its second."""
        if self._json:
            return f'{{"time":"{_utc(second)}.'
        return time.strftime("%Y-%m-%d %H:%M:%S,", time.localtime(second))

    def _remember(self, words: tuple[Any, ...]) -> str:
        """The words of a line with their names."""
        if len(self._texts) >= KNOWN:
            self._texts = {}
        named = dict(zip(WORDS, words, strict=True))
        if self._json:
            text = json.dumps(named, separators=SHARP)[1:-1]
        else:
            given = {name: value for name, value in named.items() if value not in (None, "")}
            text = " ".join(f"{name}={word(value)}" for name, value in given.items())
        self._texts[words] = text
        return text


def _utc(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
