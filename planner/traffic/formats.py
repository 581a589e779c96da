"""Files of requests that people have: their fields, by which they are recognised, and their rows.

A format is known by the fields of its first row, whether it comes as CSV or as JSON. Reading a row
makes records, or says why the row is left out. Knows no files.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from planner.errors import InvalidValue
from planner.traffic.gateway_trace import OUTCOME, REJECTED, width_of
from planner.traffic.request_record import (
    LONGEST_REQUEST_S,
    Fields,
    RequestRecord,
    digest,
    moment_s,
    text_tokens,
    whole,
)

Records = Iterable[RequestRecord] | str  # or why there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingChoices:
    """What the user says of a file. unit: of its times, `None`: as the format has it.
    bytes_per_token: where a file has texts instead of token counts."""

    unit: str | None = None
    bytes_per_token: float = 4.0


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """A kind of file. fields: those that its rows must have. read: the records of a row."""

    name: str
    fields: frozenset[str]
    read: Callable[[Fields, ReadingChoices], Records]


def _litellm(row: Fields, _: ReadingChoices) -> Records:
    """A row of LiteLLM's spend logs: the table as CSV, or `/spend/logs` as JSON."""
    kind = str(row.get("call_type") or "completion")
    if not any(word in kind for word in ("completion", "responses", "messages")):
        return f"call_type {kind}"
    if str(row.get("status") or "success") == "failure":
        return "failed"
    if str(row.get("cache_hit") or "").lower() == "true":
        return "answered from LiteLLM's cache"
    at_s = moment_s(row, "startTime")
    if row.get("endTime"):
        _check_duration(moment_s(row, "endTime") - at_s, "endTime")
    inputs, outputs = whole(row, "prompt_tokens"), whole(row, "completion_tokens")
    if row.get("total_tokens") not in (None, ""):
        _check_total(row, "total_tokens", inputs + outputs)
    return _one(
        at_s=at_s,
        input_tokens=inputs,
        output_tokens=outputs,
        key=digest(row.get("end_user") or row.get("user") or row.get("api_key")),
        model=str(row.get("model_group") or row.get("model") or ""),
        cached_tokens=_cached(row),
    )


def _azure(row: Fields, choices: ReadingChoices) -> Records:
    """Azure's LLM inference traces of 2023 and 2024."""
    return _one(
        at_s=moment_s(row, "TIMESTAMP", choices.unit),
        input_tokens=whole(row, "ContextTokens"),
        output_tokens=whole(row, "GeneratedTokens"),
    )


def _burstgpt(row: Fields, choices: ReadingChoices) -> Records:
    """BurstGPT, with or without sessions. An answer of no token is a failure there."""
    inputs, outputs = whole(row, "Request tokens"), whole(row, "Response tokens")
    if row.get("Total tokens") not in (None, ""):
        _check_total(row, "Total tokens", inputs + outputs)
    if outputs == 0:
        return "failed"
    return _one(
        at_s=moment_s(row, "Timestamp", choices.unit or "s"),
        input_tokens=inputs,
        output_tokens=outputs,
        key=digest(row.get("Session ID")),
        model=str(row.get("Model") or ""),
    )


def _mooncake(row: Fields, choices: ReadingChoices) -> Records:
    """Mooncake's traces: milliseconds, and hashes of blocks of 512 tokens."""
    return _hashed(row, choices.unit or "ms", 512)


def _bailian(row: Fields, choices: ReadingChoices) -> Records:
    """Alibaba's traces with hashes: seconds, and blocks of 16 tokens."""
    return _hashed(row, choices.unit or "s", 16, key=digest(row.get("user_id")))


def _servegen(row: Fields, choices: ReadingChoices) -> Records:
    """Requests of ServeGen as CSV or JSON, and every other table with these fields."""
    return _one(
        at_s=moment_s(row, "timestamp", choices.unit),
        input_tokens=whole(row, "input_tokens"),
        output_tokens=whole(row, "output_tokens"),
        key=digest(row.get("client_id") or row.get("user") or row.get("key")),
        model=str(row.get("model") or ""),
    )


def _servegen_batch(row: Fields, _: ReadingChoices) -> Records:
    """ServeGen's offline traces: sizes in the order of a batch, without times."""
    return _one(
        at_s=None,
        input_tokens=whole(row, "input_length"),
        output_tokens=whole(row, "output_length"),
    )


def _own(row: Fields, choices: ReadingChoices) -> Records:
    """A trace of ours, also what a gateway wrote. Without times it is a set of sizes."""
    if row.get(OUTCOME) == REJECTED:
        return "a client's mistake"
    at_s = moment_s(row, "arrival_s", choices.unit or "s") if row.get("arrival_s") else None
    hits = whole(row, "cached_tokens") if row.get("cached_tokens") else 0
    made = _one(
        at_s=at_s,
        input_tokens=whole(row, "input_tokens"),
        output_tokens=whole(row, "output_tokens"),
        key=str(row.get("key") or ""),
        model=str(row.get("model") or ""),
        cached_tokens=hits,
        estimated=row.get("sizes") == "estimated",
    )
    return made if isinstance(made, str) else made * width_of(row)


def _conversation(row: Fields, choices: ReadingChoices) -> Records:
    """A conversation of ShareGPT or of OpenAI's form: every answer in it is a request, whose prompt
    is all that stands before it."""
    turns = row.get("conversations", row.get("messages"))
    if not isinstance(turns, list):
        raise InvalidValue("conversations is not a list of turns")
    before, records = "", list[RequestRecord]()
    for turn in turns:
        if not isinstance(turn, dict):
            raise InvalidValue(f"a turn is not an object: `{str(turn)[:40]}`")
        text = turn.get("value", turn.get("content"))
        text = text if isinstance(text, str) else ""
        answers = str(turn.get("from", turn.get("role"))) in ("gpt", "assistant", "chatgpt", "bing")
        if answers and before and text:
            record = RequestRecord(
                at_s=None,
                input_tokens=text_tokens(before, choices.bytes_per_token),
                output_tokens=text_tokens(text, choices.bytes_per_token),
                model=str(row.get("model") or ""),
                estimated=True,
            )
            records.append(record)
        before += text
    return records or "no answer in it"


FORMATS = (
    TraceFormat(
        "litellm", frozenset({"startTime", "prompt_tokens", "completion_tokens"}), _litellm
    ),
    TraceFormat("azure", frozenset({"TIMESTAMP", "ContextTokens", "GeneratedTokens"}), _azure),
    TraceFormat(
        "burstgpt", frozenset({"Timestamp", "Request tokens", "Response tokens"}), _burstgpt
    ),
    TraceFormat(
        "bailian", frozenset({"timestamp", "input_length", "output_length", "chat_id"}), _bailian
    ),
    TraceFormat(
        "mooncake", frozenset({"timestamp", "input_length", "output_length"}), _mooncake
    ),
    TraceFormat(
        "servegen-batch", frozenset({"request_id", "input_length", "output_length"}),
        _servegen_batch,
    ),
    TraceFormat("servegen", frozenset({"timestamp", "input_tokens", "output_tokens"}), _servegen),
    TraceFormat("cuvee", frozenset({"arrival_s", "input_tokens", "output_tokens"}), _own),
    TraceFormat("sharegpt", frozenset({"conversations"}), _conversation),
    TraceFormat("chats", frozenset({"messages"}), _conversation),
)  # fmt: skip


def recognised(fields: Iterable[str]) -> TraceFormat | None:
    """The first format whose fields are all there."""
    given = set(fields)
    return next((each for each in FORMATS if each.fields <= given), None)


def _hashed(row: Fields, unit: str, block_tokens: int, key: str = "") -> Records:
    hashes = row.get("hash_ids") or ()
    if isinstance(hashes, str):
        hashes = hashes.strip("[]").replace(",", " ").split()
    try:
        blocks = tuple(int(each) for each in hashes)
    except (TypeError, ValueError):
        raise InvalidValue(f"hash_ids is no list of numbers: `{str(hashes)[:40]}`") from None
    return _one(
        at_s=moment_s(row, "timestamp", unit),
        input_tokens=whole(row, "input_length"),
        output_tokens=whole(row, "output_length"),
        key=key,
        blocks=blocks,
        block_tokens=block_tokens,
    )


def _one(**fields: Any) -> list[RequestRecord] | str:
    """One record, or why there is none."""
    if fields["input_tokens"] == 0:
        return "no prompt tokens"
    return [RequestRecord(**fields)]


def _cached(row: Fields) -> int:
    """Prefix hits that LiteLLM noted in a row's metadata, if it did."""
    usage = _inside(row, "metadata", "usage_object")
    details = _inside(usage, "prompt_tokens_details")
    hits = details.get("cached_tokens") or usage.get("cache_read_input_tokens") or 0
    return min(whole({"cached_tokens": hits}, "cached_tokens"), whole(row, "prompt_tokens"))


def _inside(fields: Fields, *names: str) -> Fields:
    """An object in an object; empty where there is none. A string is taken for its JSON."""
    value: Any = fields
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) and value.startswith("{"):
            value = json_object(value)
    return value if isinstance(value, dict) else {}


def json_object(text: str) -> Fields:
    """The object in a string; empty for anything else."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _check_duration(seconds: float, name: str) -> None:
    if seconds < 0:
        raise InvalidValue(f"{name} is {-seconds:g} s before startTime")
    if seconds > LONGEST_REQUEST_S:
        raise InvalidValue(f"{name} is {seconds / 3600:.0f} h after startTime: no request takes it")


def _check_total(row: Fields, name: str, total: int) -> None:
    told = whole(row, name)
    if told != total:
        raise InvalidValue(f"{name} is {told}, but prompt and answer have {total}")
