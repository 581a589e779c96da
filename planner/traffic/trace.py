"""Traces of real traffic: reading, cutting and measuring them. Must not know buckets or pools.

A trace is a CSV file with the header `arrival_s,input_tokens,output_tokens[,key][,cached_tokens]`:
seconds since its start, ascending; the actual token counts; the key of the sender; and how many of
the input tokens the engine had computed for earlier requests. The last two may be empty or missing.
What a gateway writes of its own traffic (`gateway_trace`) is read as such a file.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO, TypeVar

import numpy as np

from planner.errors import InvalidFile, InvalidValue
from planner.sizes import FloatArray, IntArray
from planner.traffic.gateway_trace import ServedSelection, is_served, whole_lines, width_of

COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
LEAST_FOR_RATE = 100  # fewer requests may well come at one moment
LEAST_WINDOWS = 5  # the variance of fewer counts says next to nothing
MOST_TOKENS = 10**8  # beyond any model's context: a larger count is a broken file
# What no fleet has served: such a file has its times in another unit, or counts from 1970.
LONGEST_S = 731 * 86_400.0  # two years
MOST_RATE = 1e6  # requests/s
YEAR_S = 365 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Requests in order of arrival.

    arrival_s: (N,) seconds since the start, ascending. input_tokens, output_tokens: (N,) actual
    sizes. key: (N,) the sender of each request, "" if the trace does not name one. cached_tokens:
    (N,) of the input, prefix hits; without the column none.
    Raises InvalidValue if the columns differ in length, and for more hits than input.
    """

    arrival_s: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    key: tuple[str, ...]
    cached_tokens: FloatArray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if not self.cached_tokens.any():
            object.__setattr__(self, "cached_tokens", np.zeros(len(self.key)))
        columns = (
            self.arrival_s, self.input_tokens, self.output_tokens, self.key, self.cached_tokens
        )  # fmt: skip
        lengths = {len(column) for column in columns}
        if len(lengths) != 1:
            raise InvalidValue(f"the columns of a trace differ in length: {sorted(lengths)}")
        if not np.all((self.cached_tokens >= 0) & (self.cached_tokens <= self.input_tokens)):
            raise InvalidValue("cached_tokens must be from 0 to input_tokens")

    def __len__(self) -> int:
        return len(self.key)

    @property
    def duration_s(self) -> float:
        """Seconds from the start to the last arrival; 0 for an empty trace."""
        return float(self.arrival_s[-1]) if len(self) else 0.0

    @property
    def rate(self) -> float | None:
        """Mean requests/s; `None` if all requests arrived at once."""
        return len(self) / self.duration_s if self.duration_s > 0 else None

    def slice(self, start_s: float, end_s: float) -> "Trace":
        """The requests that arrived in `[start_s, end_s)`, in seconds since `start_s`."""
        first, last = np.searchsorted(self.arrival_s, (start_s, end_s), side="left")
        return Trace(
            arrival_s=self.arrival_s[first:last] - start_s,
            input_tokens=self.input_tokens[first:last],
            output_tokens=self.output_tokens[first:last],
            key=self.key[first:last],
            cached_tokens=self.cached_tokens[first:last],
        )

    def take(self, rows: IntArray, arrival_s: FloatArray | None = None) -> "Trace":
        """These rows in this order, at their own arrival times or at the given ones."""
        return Trace(
            arrival_s=self.arrival_s[rows] if arrival_s is None else arrival_s,
            input_tokens=self.input_tokens[rows],
            output_tokens=self.output_tokens[rows],
            key=tuple(self.key[row] for row in rows.tolist()),
            cached_tokens=self.cached_tokens[rows],
        )


def merge_traces(traces: Sequence[Trace]) -> tuple[Trace, IntArray]:
    """Several traces as one in order of arrival, and (N,) each request's row in the stacked traces.

    Of requests that arrive at the same moment, those of the earlier trace come first.
    """
    stacked = Trace(
        arrival_s=np.concatenate([trace.arrival_s for trace in traces]),
        input_tokens=np.concatenate([trace.input_tokens for trace in traces]),
        output_tokens=np.concatenate([trace.output_tokens for trace in traces]),
        key=tuple(key for trace in traces for key in trace.key),
        cached_tokens=np.concatenate([trace.cached_tokens for trace in traces]),
    )
    order = np.argsort(stacked.arrival_s, kind="stable")  # stable: ties keep the traces' order
    return stacked.take(order), np.asarray(order, dtype=np.int64)


def read_trace(path: Path, *, model: str | None = None, slo_class: str | None = None) -> Trace:
    """Read a trace. Raises InvalidFile, `path:line: …`, for the first thing that is wrong.

    model, slo_class: only their requests, of a gateway's own trace, which may have several; the
    times are the same seconds whatever is chosen. Other traces are read whole.
    """
    chosen = ServedSelection(model, slo_class)
    rows = parse_rows(path, partial(_rows, chosen), empty="no requests")
    duration_s = rows[-1][0]
    if duration_s > 0 and len(rows) > max(MOST_RATE * duration_s, LEAST_FOR_RATE):
        text = f"{len(rows)} requests in {duration_s:g} s, which no fleet has"
        raise InvalidFile(f"{path}:{len(rows) + 1}: {text}: arrival_s is in seconds")
    arrivals, inputs, outputs, keys, cached = zip(*rows, strict=True)
    return Trace(
        arrival_s=np.array(arrivals, dtype=float),
        input_tokens=np.array(inputs, dtype=float),
        output_tokens=np.array(outputs, dtype=float),
        key=keys,
        cached_tokens=np.array(cached, dtype=float),
    )


def write_trace(trace: Trace, file: TextIO) -> None:
    """Write a trace as `read_trace` reads it. Columns in which nothing stands are left out."""
    columns = {"key": any(trace.key), "cached_tokens": bool(trace.cached_tokens.any())}
    extra = [name for name, filled in columns.items() if filled]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((*COLUMNS, *extra))
    for row in range(len(trace)):
        sizes = (trace.input_tokens[row], trace.output_tokens[row], trace.cached_tokens[row])
        inputs, outputs, cached = map(int, sizes)
        more = {"key": trace.key[row], "cached_tokens": cached}
        arrival = f"{trace.arrival_s[row]:.6f}".rstrip("0").rstrip(".")
        writer.writerow((arrival, inputs, outputs, *(more[name] for name in extra)))


T = TypeVar("T")


def parse_rows(
    path: Path, rows: Callable[[Path, Iterable[str]], Iterator[T]], *, empty: str
) -> list[T]:
    """The rows that a parser makes of a CSV file's lines.

    empty: the complaint about a file without rows. Raises InvalidFile if the file cannot be read.
    """
    try:
        # utf-8-sig: spreadsheets write a byte order mark, which would be part of the first column.
        with path.open(newline="", encoding="utf-8-sig") as file:
            parsed = list(rows(path, file))
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path}: not UTF-8 text: {error.reason}") from error
    if not parsed:
        raise InvalidFile(f"{path}:2: {empty}")
    return parsed


def parse_number(name: str, text: str) -> float:
    """The value of a column, finite and not negative. Raises InvalidValue, naming the column."""
    try:
        value = float(text)
    except ValueError:
        raise InvalidValue(f"{name} is not a number: `{text}`") from None
    if not 0 <= value < float("inf"):
        raise InvalidValue(f"{name} must be finite and not negative: {text}")
    return value


def dispersion(arrival_s: FloatArray, window_s: float, duration_s: float) -> float | None:
    """Index of dispersion of counts: variance over mean of the arrivals per window.

    Counts the whole windows of `window_s` seconds in `[0, duration_s)`; 1 for Poisson arrivals.
    `None` if there are fewer than five windows or no arrivals in them. The coefficient of variation
    of inter-arrival times would mislead: conversation in the Azure 2023 trace has a CV of 1.09 but
    an index of 3.8 at 10 s, because its bursts last longer than one gap.
    """
    if not 0 < window_s < float("inf"):
        raise InvalidValue(f"window_s must be positive and finite: {window_s}")
    windows = int(duration_s / window_s + 1e-9)  # 0.3 / 0.1 is a little less than 3
    if windows < LEAST_WINDOWS:
        return None
    # Only whole windows: a part of one would count too few arrivals. Only those with arrivals are
    # counted one by one: a file may name a moment in a billion windows.
    place = np.floor(arrival_s / window_s)
    place += (place + 1) * window_s <= arrival_s  # where the quotient was rounded
    place -= place * window_s > arrival_s
    inside = place[(place >= 0) & (place < windows)]
    _, counts = np.unique(inside, return_counts=True)
    mean = len(inside) / windows
    if mean == 0:
        return None
    squares = float(((counts - mean) ** 2).sum()) + (windows - len(counts)) * mean**2
    return squares / (windows - 1) / mean


Row = tuple[float, int, int, str, int]


def _rows(chosen: ServedSelection, path: Path, lines: Iterable[str]) -> Iterator[Row]:
    reader = csv.reader(whole_lines(lines))
    try:
        header = next(reader, [])
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise InvalidValue(f"the header lacks {', '.join(missing)}")
        fields = _fields(reader, header)
        yield from _served(fields, chosen) if is_served(header) else _ordered(fields)
    except (InvalidValue, csv.Error) as error:
        raise InvalidFile(f"{path}:{max(reader.line_num, 1)}: {error}") from error


def _fields(rows: Iterable[list[str]], header: list[str]) -> Iterator[dict[str, str]]:
    """Rows by name: real traces have columns of their own, in any order."""
    for row in rows:
        if row == header:  # of the next file, where several are put together
            continue
        if len(row) != len(header):
            raise InvalidValue(f"{len(row)} columns, not {len(header)}")
        yield dict(zip(header, row, strict=True))


def _ordered(rows: Iterable[Mapping[str, str]]) -> Iterator[Row]:
    """The rows of a trace, as they stand there."""
    before_s = 0.0
    for fields in rows:
        row, arrival = _row(fields), fields["arrival_s"]
        if row[0] < before_s:
            raise InvalidValue(f"arrival_s {arrival} is before the line above")
        before_s = row[0]
        if before_s > LONGEST_S:
            years = before_s / YEAR_S
            text = "it counts seconds since the trace's start (`cuvee trace import` shifts)"
            raise InvalidValue(f"arrival_s {arrival} is {years:.3g} years: {text}")
        yield row


def _row(fields: Mapping[str, str]) -> Row:
    input_tokens = _tokens("input_tokens", fields["input_tokens"], 1)
    return (
        parse_number("arrival_s", fields["arrival_s"]),
        input_tokens,
        _tokens("output_tokens", fields["output_tokens"], 0),
        fields.get("key", ""),
        _hits(fields.get("cached_tokens", ""), input_tokens),
    )


def _served(rows: Iterable[Mapping[str, str]], chosen: ServedSelection) -> list[Row]:
    """The rows of a gateway's trace that are chosen, in order of arrival, from the first arrival in
    the file on; one of several sequences so many times."""
    found, first_s = list[Row](), float("inf")
    for fields in rows:
        row = _row(fields)
        first_s = min(first_s, row[0])
        if chosen.takes(fields):
            found += [row] * width_of(fields)
    chosen.check()
    found.sort(key=lambda row: row[0])
    if found and found[-1][0] - first_s > LONGEST_S:
        raise InvalidValue(f"{(found[-1][0] - first_s) / YEAR_S:.3g} years from first to last")
    return [(round(row[0] - first_s, 6), *row[1:]) for row in found]


def _hits(text: str, input_tokens: int) -> int:
    return _tokens("cached_tokens", text, 0, input_tokens) if text else 0


def _tokens(name: str, text: str, least: int, most: int = MOST_TOKENS) -> int:
    digits = text.strip()
    # Nine digits are more than MOST_TOKENS; `int` takes other scripts' digits and underscores too.
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 9):
        raise InvalidValue(f"{name} must be a whole number of tokens: `{text}`")
    if not least <= int(digits) <= most:
        raise InvalidValue(f"{name} must be from {least} to {most}: {text}")
    return int(digits)
