"""Makes the lines of requests as the formatters of `gateway/logs` would, at a fifth of the cost.

A line of the `logging` library takes a record, a formatter and a handler: 15 µs, half of a whole
request. Here the words of a line, which many lines share, are made once, and the rest is put
between them in one step.
"""

import json
import time
from collections.abc import Callable
from typing import Any, Final

from gateway.logs import PLAIN, LogWriter, word

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


class RequestLines:
    """The lines of one process."""

    def __init__(self, writer: LogWriter) -> None:
        """writer: takes them, and says what they look like."""
        self._gather: Callable[[bytes], None] = writer.gather
        self._json = writer.form == JSON
        self._process = writer.process
        self._texts: dict[tuple[Any, ...], str] = {}
        self._shapes: dict[int, str] = {}  # by which numbers there are, a bit each
        self._second = self._arrived_second = -1
        self._now = self._arrived = ""  # the seconds, as a line and its arrival have them

    def __repr__(self) -> str:
        return f"<RequestLines {'in JSON' if self._json else 'in words'}>"

    def write(
        self,
        now_s: float,
        arrived_at_s: float,
        request_id: str,
        words: tuple[Any, ...],
        numbers: list[float | int | None],
    ) -> bool:
        """Write a line; `False` if it must be written in the slow way, for the signs in its id.

        now_s, arrived_at_s: Unix time. words, numbers: the values of `WORDS` and `NUMBERS`.
        """
        if not PLAIN.fullmatch(request_id):
            return False
        second = int(now_s)
        if second != self._second:
            self._second, self._now = second, self._in_words(second)
        microseconds = int(arrived_at_s * 1e6 + 0.5)
        arrived = microseconds // 1_000_000
        if arrived != self._arrived_second:
            self._arrived_second, self._arrived = arrived, _utc(arrived)
        text = self._texts.get(words)
        if text is None:
            text = self._remember(words)
        values: list[Any] = [
            self._now,
            int((now_s - second) * 1e3),
            self._arrived,
            microseconds - arrived * 1_000_000,
            request_id,
            text,
        ]
        shape = 0
        bit = 1
        for number in numbers:
            if number is not None:
                values.append(number)
                shape |= bit
            bit <<= 1
        form = self._shapes.get(shape)
        if form is None:
            form = self._shapes[shape] = self._form(shape)
        line: str = form % tuple(values)
        self._gather(line.encode())
        return True

    def _in_words(self, second: int) -> str:
        if self._json:
            return _utc(second)
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))

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

    def _form(self, shape: int) -> str:
        """A line with places for all that differs, and no number that it does not have."""
        given = [shape >> place & 1 for place in range(len(NUMBERS))]
        if self._json:
            process = f'"process":"{self._process}",' if self._process else ""
            numbers = "".join(
                f',"{name}":{"%r" if one else "null"}'
                for name, one in zip(NUMBERS, given, strict=True)
            )
            return (
                f'{{"time":"%s.%03dZ","level":"{LEVEL}","logger":"{LOGGER}",{process}'
                f'"message":"{MESSAGE}","arrived_at":"%s.%06d+00:00","request_id":"%s",%s'
                f"{numbers}}}\n"
            )
        process = f"[{self._process}] " if self._process else ""
        numbers = "".join(f" {name}=%r" for name, one in zip(NUMBERS, given, strict=True) if one)
        return (
            f"%s,%03d {LEVEL.upper()} {LOGGER} {process}{MESSAGE} arrived_at=%s.%06d+00:00 "
            f"request_id=%s %s{numbers}\n"
        )


def _utc(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
