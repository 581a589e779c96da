"""Requests in the log of a vLLM that runs with `--enable-log-requests`.

A request is a line when it comes and one or more when it is answered; both are joined by its id.
Knows no files.
"""

import datetime
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from planner.errors import InvalidValue
from planner.traffic.request_record import RequestRecord, text_tokens

# vLLM's own prefix, `INFO 11-22 09:10:10 [logger.py:43]`, or a date that a collector put before it.
CLOCK = re.compile(r"\b[A-Z]+ (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)\b")
DATE = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?)")
RECEIVED = re.compile(r"Received request (\S+?): ")
DETAILS = re.compile(r"Request (\S+?) details: ")
GENERATED = re.compile(r"Generated response (\S+?)( \(streaming (?:delta|complete)\))?: ")
IDS = re.compile(r"(?:prompt|output)_token_ids: (\[[\d, ]*\]|None)")
PROMPT = re.compile(r"prompt: ('.*?'|\".*?\"|None), (?:params|prompt_token_ids|sampling_params)")
OUTPUT = re.compile(r"output: ('.*'|\".*\"), (?:output_token_ids|finish_reason)")
LEAP_YEAR = 2024  # vLLM writes no year; a leap year has every day that a log may name


@dataclass(slots=True)
class _Logged:
    """A request as far as lines have told of it. Sizes are `None` until one of them does."""

    at_s: float
    line: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    deltas: int = 0
    estimated: bool = False


def is_vllm_log(text: str) -> bool:
    """Whether the beginning of a file is such a log."""
    return not text.lstrip().startswith(("{", "[{")) and RECEIVED.search(text) is not None


def read_log(
    lines: Iterable[str], bytes_per_token: float
) -> Iterator[tuple[int, RequestRecord | str]]:
    """Every request with the number of its first line, or why it is left out.

    Where the log has texts and no token ids, sizes are estimated by their length. Raises
    InvalidValue for a request whose line has no time.
    """
    logged: dict[str, _Logged] = {}
    for number, line in enumerate(lines, 1):
        if received := RECEIVED.search(line):
            entry = logged.setdefault(received[1], _Logged(_time_s(line, number), number))
            _note_prompt(entry, line, bytes_per_token)
        elif details := DETAILS.search(line):
            # It stands one line before the request that it is about.
            entry = logged.setdefault(details[1], _Logged(_time_s(line, number), number))
            _note_prompt(entry, line, bytes_per_token)
        elif (generated := GENERATED.search(line)) and generated[1] in logged:
            _note_answer(logged[generated[1]], line, generated[2] or "", bytes_per_token)
    for entry in logged.values():
        yield entry.line, _record(entry)


def _record(entry: _Logged) -> RequestRecord | str:
    output = entry.deltas or entry.output_tokens
    if entry.input_tokens is None:
        return "no prompt in the log (VLLM_LOGGING_LEVEL=DEBUG shows it)"
    if output is None:
        return "no answer in the log (--enable-log-outputs shows it)"
    return RequestRecord(
        at_s=entry.at_s,
        input_tokens=entry.input_tokens,
        output_tokens=output,
        estimated=entry.estimated,
    )


def _note_prompt(entry: _Logged, line: str, bytes_per_token: float) -> None:
    ids = IDS.search(line)
    if ids is not None and ids[1] != "None":
        entry.input_tokens = max(1, _count(ids[1]))
    elif (prompt := PROMPT.search(line)) and prompt[1] != "None":
        entry.input_tokens = text_tokens(prompt[1][1:-1], bytes_per_token)
        entry.estimated = True


def _note_answer(entry: _Logged, line: str, stage: str, bytes_per_token: float) -> None:
    ids = IDS.search(line)
    if ids is not None and ids[1] != "None":
        if "delta" in stage:
            entry.deltas += _count(ids[1])
        else:
            entry.output_tokens = _count(ids[1])
    elif "delta" not in stage and (output := OUTPUT.search(line)):
        entry.output_tokens = text_tokens(output[1][1:-1], bytes_per_token)
        entry.estimated = entry.estimated or not entry.deltas


def _count(ids: str) -> int:
    inside = ids.strip("[] ")
    return inside.count(",") + 1 if inside else 0


def _time_s(line: str, number: int) -> float:
    if date := DATE.search(line):
        moment = datetime.datetime.fromisoformat(date[1])
    elif clock := CLOCK.search(line):
        month, day, hour, minute, second = map(int, clock.groups())
        try:
            moment = datetime.datetime(LEAP_YEAR, month, day, hour, minute, second)
        except ValueError:
            raise InvalidValue(f"line {number} has no such time: {clock[0]}") from None
    else:
        raise InvalidValue(f"line {number} says of a request and has no time")
    return moment.replace(tzinfo=datetime.UTC).timestamp()
