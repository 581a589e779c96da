"""One request as other people's files describe it, and how their numbers and times are read.

Pure values; knows no file formats. A value that cannot be what its name says raises InvalidValue.
"""

import datetime
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.errors import InvalidValue

Fields = Mapping[str, Any]

MOST_CONTEXT = 10**7  # tokens: ten times the longest context of any model that is served
LONGEST_REQUEST_S = 86_400.0  # no fleet answers one request for a day
KEY_DIGITS = 12
UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
# A number of seconds since 1970 is below this until the year 5138; clocks of finer units are above.
LATEST_EPOCH_S = 1e11
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
FRACTION = re.compile(r"(\.\d{6})\d+")  # of a second: Azure 2023 writes seven digits


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request. at_s: seconds on the file's own clock, `None` where it has none. key: a digest
    of the sender's name, "" for unknown. cached_tokens: of the input, prefix hits. blocks: hashes
    of the prompt's blocks, each of `block_tokens`. estimated: whether sizes are those of texts."""

    at_s: float | None
    input_tokens: int
    output_tokens: int
    key: str = ""
    model: str = ""
    cached_tokens: int = 0
    blocks: tuple[int, ...] = ()
    block_tokens: int = 0
    estimated: bool = False


def whole(fields: Fields, name: str) -> int:
    """A number of tokens. Raises InvalidValue unless it is whole, not negative and credible."""
    value = fields.get(name)
    if isinstance(value, str):
        text = value.strip()
        if not re.fullmatch(r"[+-]?\d{1,18}(\.0*)?", text, re.ASCII):
            raise InvalidValue(f"{name} is not a whole number of tokens: `{text[:40]}`")
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidValue(f"{name} is not a whole number of tokens: `{str(value)[:40]}`")
    if value != int(value) or value < 0:
        raise InvalidValue(f"{name} is not a whole number of tokens: {value}")
    if value > MOST_CONTEXT:
        raise InvalidValue(f"{name} is {int(value)}: no model has such a context")
    return int(value)


def moment_s(fields: Fields, name: str, unit: str | None = None) -> float:
    """A time in seconds: a number, or a date as ISO 8601 writes it, in UTC unless it says else.

    unit: of a number; by default seconds, or what a clock since 1970 must be in by its size.
    """
    value = fields.get(name)
    if isinstance(value, str):
        if not NUMBER.fullmatch(value.strip()):
            return _date_s(name, value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidValue(f"{name} is not a time: `{str(value)[:40]}`")
    if unit is not None:
        return float(value) * UNITS_S[unit]
    for known in UNITS_S:
        if abs(value) * UNITS_S[known] < LATEST_EPOCH_S:
            return float(value) * UNITS_S[known]
    raise InvalidValue(f"{name} is not a time: {value:g}")


def _date_s(name: str, text: str) -> float:
    try:
        date = datetime.datetime.fromisoformat(FRACTION.sub(r"\1", text.strip()))
    except ValueError:
        raise InvalidValue(f"{name} is not a time: `{text[:40]}`") from None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return date.timestamp()


def digest(name: object) -> str:
    """A sender's name as a trace may hold it: not the key or the address itself."""
    if name in (None, ""):
        return ""
    return hashlib.sha256(str(name).encode()).hexdigest()[:KEY_DIGITS]


def text_tokens(text: str, bytes_per_token: float) -> int:
    """Tokens of a text, at least one, by its length in bytes."""
    return max(1, round(len(text.encode()) / bytes_per_token))
