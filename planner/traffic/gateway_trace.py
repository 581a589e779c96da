"""The trace that a gateway writes of its own traffic: its columns, its lines, and which of its rows
a plan is made from. Knows no files.

It is a trace with more columns, a line for each finished request, in the order in which they ended;
`arrival_s` counts from 1970, so that files of one gateway can be put together in any order.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain

import msgspec

from planner.errors import InvalidValue
from planner.model.buckets import BEST_EFFORT

OUTCOME = "outcome"  # the column by which such a file is known
REJECTED = "rejected"  # the outcome of a client's mistake, which costs an engine nothing
COLUMNS = (
    "arrival_s", "input_tokens", "output_tokens", "key", "cached_tokens", "model", "adapter",
    "endpoint", "class", OUTCOME, "width", "sizes", "ttft_s", "duration_s",
)  # fmt: skip
HEADER = ",".join(COLUMNS) + "\n"
KEY_BYTES = 6  # twelve digits, as in imported traces
MOST_WIDTH = 4096  # sequences of one request: beyond what any engine takes


class ServedRequest(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One finished request.

    at_s: Unix time of its arrival. caller: id of the caller, "" for unknown. adapter: "" for none.
    input_tokens, output_tokens, cached_tokens: of one of its sequences, of which there are `width`.
    estimated: whether one of the first two is what was believed at its arrival, because nothing
    else is known. ttft_s, duration_s: from its arrival; TTFT is `None` where no first token was
    seen.
    """

    at_s: float
    caller: str
    model: str
    adapter: str
    endpoint: str
    slo_class: str
    outcome: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    width: int
    estimated: bool
    ttft_s: float | None
    duration_s: float


def written(requests: Iterable[ServedRequest], secret: bytes) -> str:
    """The lines of these requests. secret: see `hashed_caller`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_cells(each, secret) for each in requests)
    return text.getvalue()


def hashed_caller(caller: str, secret: bytes) -> str:
    """A caller as the file has it; "" for an unknown one. secret: at most 64 bytes, without which
    nobody can tell whose requests are whose, even with a list of all keys."""
    if not caller:
        return ""
    return blake2b(caller.encode(), key=secret, digest_size=KEY_BYTES).hexdigest()


def is_served(header: Sequence[str]) -> bool:
    """Whether these columns are those of a gateway's trace."""
    return OUTCOME in header and "arrival_s" in header


def whole_lines(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a file; of a gateway's trace without the last one while that is not whole, which
    it may be while the gateway writes, or after it was killed."""
    rest = iter(lines)
    first = next(rest, "")
    if not is_served(first.strip().split(",")):
        yield from chain([first] if first else [], rest)
        return
    yield first
    yield from (line for line in rest if line.endswith("\n"))


class ServedSelection:
    """Which rows of a gateway's trace are taken: those of one model, and of one SLO class or of all
    that have a promise; none that a client's mistake ended."""

    def __init__(self, model: str | None = None, slo_class: str | None = None) -> None:
        """model: `None`: the only one in the file."""
        self._model = model
        self._slo_class = slo_class
        self._seen: dict[str, bool] = {}  # each model, and whether a row of it was taken

    def takes(self, fields: Mapping[str, str]) -> bool:
        """Whether a row is one of them. Raises InvalidValue for a second model where none was
        chosen."""
        model, slo_class = fields.get("model", ""), fields.get("class", "")
        before = self._seen.setdefault(model, False)
        if self._model is None and len(self._seen) > 1:
            raise InvalidValue(f"{self._names()}: choose one with `cuvee trace import --model`")
        if fields[OUTCOME] == REJECTED or self._model not in (None, model):
            return False
        if self._slo_class is None:
            taken = slo_class != BEST_EFFORT
        else:
            taken = slo_class == self._slo_class
        self._seen[model] = before or taken
        return taken

    def check(self) -> None:
        """Raises InvalidValue if there were rows and none was taken."""
        if self._seen and not any(self._seen.values()):
            wanted = [self._model and f"model `{self._model}`", self._slo_class]
            shown = " and class ".join(filter(None, wanted)) or "a promise"
            raise InvalidValue(f"no requests of {shown}: {self._names()}")

    def _names(self) -> str:
        return f"requests for {', '.join(map(repr, sorted(self._seen)))}"


def width_of(fields: Mapping[str, object]) -> int:
    """Sequences of a row. Raises InvalidValue."""
    text = str(fields.get("width") or "1")
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST_WIDTH):
        raise InvalidValue(f"width is no number of sequences: `{text[:40]}`")
    return int(text)


def _cells(request: ServedRequest, secret: bytes) -> tuple[object, ...]:
    return (
        f"{request.at_s:.6f}",
        request.input_tokens,
        request.output_tokens,
        hashed_caller(request.caller, secret),
        request.cached_tokens,
        request.model,
        request.adapter,
        request.endpoint,
        request.slo_class,
        request.outcome,
        request.width,
        "estimated" if request.estimated else "counted",
        "" if request.ttft_s is None else f"{request.ttft_s:.6f}",
        f"{request.duration_s:.6f}",
    )
