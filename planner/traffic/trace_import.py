"""A trace from a file that somebody has: recognised by its content, read, checked, put in order.

Owns files and what is impossible in a whole file; `formats` knows rows. What is plainly not what it
says is refused with the line and the reason.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import numpy as np

from planner.errors import InvalidFile, InvalidValue
from planner.sizes import FloatArray
from planner.traffic import formats, vllm_log
from planner.traffic.arrivals import gamma
from planner.traffic.formats import FORMATS, ReadingChoices, TraceFormat
from planner.traffic.gateway_trace import whole_lines
from planner.traffic.request_record import Fields, RequestRecord
from planner.traffic.trace import LEAST_FOR_RATE, LONGEST_S, MOST_RATE, YEAR_S, Trace

SNIFFED = 65_536  # characters that say what a file is
LONGEST_FIELD = 2**26  # bytes: LiteLLM's table may hold whole prompts; the module's own is 2**17
VLLM_LOG = "vllm-log"
NAMES = (*(each.name for each in FORMATS), VLLM_LOG)

Entry = tuple[int, RequestRecord | str]  # the line of a request, or of why it is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedTrace:
    """A trace, and how it came to be. left_out: rows by the reason. estimated: requests whose
    sizes are those of texts. timed: whether arrivals are the file's own."""

    trace: Trace
    format: str
    left_out: Mapping[str, int]
    estimated: int
    timed: bool


def import_trace(
    path: Path,
    choices: ReadingChoices,
    *,
    name: str | None = None,
    model: str | None = None,
    rate: float | None = None,
    seed: int = 1,
    prefix_hits: bool = False,
) -> ImportedTrace:
    """Read a file. Raises InvalidFile, which names the line, for a file that cannot be a trace.

    name: of its format, `None`: recognised. model: only its requests. rate: Poisson arrivals of so
    many requests/s instead of the file's times; a file without times needs it. prefix_hits: count
    blocks of prompts that an earlier request had, as a cache without a limit does.
    """
    kind, entries = _entries(path, choices, name)
    left_out: Counter[str] = Counter()
    kept: list[tuple[int, RequestRecord]] = []
    for line, entry in entries:
        if isinstance(entry, str):
            left_out[entry] += 1
        elif model is not None and entry.model != model:
            left_out[f"model {entry.model or 'unknown'}"] += 1
        else:
            kept.append((line, entry))
    if not kept:
        reasons = ", ".join(f"{count} × {why}" for why, count in left_out.most_common(3))
        raise InvalidFile(f"{path}: no requests{f': {reasons}' if reasons else ''}")
    timed = rate is None
    arrival_s = _own_times(path, kept) if rate is None else _drawn(rate, len(kept), seed)
    order = np.argsort(arrival_s, kind="stable")
    records = [kept[row][1] for row in order.tolist()]
    hits = _block_hits(records) if prefix_hits else [each.cached_tokens for each in records]
    trace = Trace(
        arrival_s=arrival_s[order],
        input_tokens=np.array([each.input_tokens for each in records], dtype=float),
        output_tokens=np.array([each.output_tokens for each in records], dtype=float),
        key=tuple(each.key for each in records),
        cached_tokens=np.array(hits, dtype=float),
    )
    estimated = sum(each.estimated for each in records)
    return ImportedTrace(
        trace=trace, format=kind, left_out=dict(left_out), estimated=estimated, timed=timed
    )


def _entries(path: Path, choices: ReadingChoices, name: str | None) -> tuple[str, Iterator[Entry]]:
    """The file's format and its requests. Errors of single rows come while they are read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.read(SNIFFED)
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path}: not UTF-8 text: {error.reason}") from error
    if name == VLLM_LOG or (name is None and vllm_log.is_vllm_log(head)):
        return VLLM_LOG, _log_entries(path, choices)
    begin = head.lstrip()
    rows = _json_rows(path) if begin.startswith(("{", "[")) else _csv_rows(path)
    first = next(rows, None)
    if first is None:
        raise InvalidFile(f"{path}: no requests")
    kind = _format(path, first[1], name)
    return kind.name, _row_entries(path, kind, chain([first], rows), choices)


def _format(path: Path, row: Fields, name: str | None) -> TraceFormat:
    kind = formats.recognised(row)
    if name is not None:
        kind = next(each for each in FORMATS if each.name == name)
        lacking = sorted(kind.fields - set(row))
        if lacking:
            raise InvalidFile(f"{path}:1: not {name}: it lacks {', '.join(lacking)}")
    if kind is None and "requests_per_s" in row:
        raise InvalidFile(f"{path}:1: rates and no requests: `cuvee portfolio --history` reads it")
    if kind is None:
        shown = ", ".join(islice(map(str, row), 8))
        raise InvalidFile(
            f"{path}:1: not a file of requests that is known ({', '.join(NAMES)}); its fields: "
            f"{shown}"
        )
    return kind


def _row_entries(
    path: Path, kind: TraceFormat, rows: Iterator[tuple[int, Fields]], choices: ReadingChoices
) -> Iterator[Entry]:
    for line, row in rows:
        try:
            records = kind.read(row, choices)
        except InvalidValue as error:
            raise InvalidFile(f"{path}:{line}: {error}") from error
        if isinstance(records, str):
            yield line, records
        else:
            for record in records:
                yield line, record


def _log_entries(path: Path, choices: ReadingChoices) -> Iterator[Entry]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        try:
            yield from vllm_log.read_log(file, choices.bytes_per_token)
        except InvalidValue as error:
            raise InvalidFile(f"{path}: {error}") from error


def _csv_rows(path: Path) -> Iterator[tuple[int, Fields]]:
    """The rows of a table by the names in its header, each with its line."""
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(whole_lines(file))
        try:
            header = next(reader, [])
            for row in reader:
                if row == header:  # of the next file, where several are put together
                    continue
                if len(row) != len(header):
                    text = f"{len(row)} columns, not {len(header)}"
                    raise InvalidFile(f"{path}:{reader.line_num}: {text}")
                yield reader.line_num, dict(zip(header, row, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidFile(f"{path}:{reader.line_num}: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[int, Fields]]:
    """The objects of a file: one a line, or those of one list, which are numbered from 1."""
    with path.open(encoding="utf-8-sig") as file:
        try:
            whole = _whole_list(file)
            if whole is not None:
                numbered: Iterator[tuple[int, object]] = iter(enumerate(whole, 1))
            else:
                file.seek(0)
                numbered = _json_lines(path, file)
            for number, value in numbered:
                if not isinstance(value, dict):
                    raise InvalidFile(f"{path}:{number}: not an object: `{str(value)[:40]}`")
                yield number, value
        except UnicodeDecodeError as error:
            raise InvalidFile(f"{path}: not UTF-8 text: {error.reason}") from error


def _whole_list(file: TextIO) -> list[object] | None:
    """The list that a file is, or has under `data`; `None` for a file of lines."""
    first = file.readline()
    try:
        if isinstance(value := json.loads(first), dict) and not isinstance(value.get("data"), list):
            return None
    except ValueError:
        pass
    file.seek(0)
    try:
        value = json.load(file)
    except ValueError:
        return None
    listed = value.get("data", [value]) if isinstance(value, dict) else value
    return listed if isinstance(listed, list) else None


def _json_lines(path: Path, file: TextIO) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise InvalidFile(f"{path}:{number}: not JSON: {error}") from error


def _own_times(path: Path, kept: list[tuple[int, RequestRecord]]) -> FloatArray:
    """(N,) seconds since the first request. Raises InvalidFile for times that no fleet has seen."""
    for line, record in kept:
        if record.at_s is None:
            raise InvalidFile(f"{path}:{line}: no times: --rate says how many requests/s come")
    times_s = np.array([record.at_s for _, record in kept], dtype=float)
    arrival_s: FloatArray = times_s - times_s.min()
    last = int(arrival_s.argmax())
    if arrival_s[last] > LONGEST_S:
        years = arrival_s[last] / YEAR_S
        raise InvalidFile(
            f"{path}:{kept[last][0]}: {years:.3g} years after the first request: what unit are the "
            "times in (--time-unit)?"
        )
    if len(kept) >= LEAST_FOR_RATE and len(kept) > MOST_RATE * arrival_s[last]:
        raise InvalidFile(
            f"{path}:{kept[last][0]}: {len(kept)} requests within {arrival_s[last]:.3g} s, which "
            "no fleet has: what unit are the times in (--time-unit), or what is the --rate?"
        )
    return arrival_s


def _drawn(rate: float, count: int, seed: int) -> FloatArray:
    """(N,) Poisson arrivals."""
    return gamma(rate, 1.0, count, np.random.default_rng(seed))


def _block_hits(records: list[RequestRecord]) -> list[int]:
    """The tokens of each prompt's leading blocks that an earlier prompt had; never the last token,
    which is computed all the same."""
    seen: set[int] = set()
    hits = []
    for record in records:
        known = 0
        for block in record.blocks:
            if block not in seen:
                break
            known += 1
        seen.update(record.blocks)
        hits.append(min(known * record.block_tokens, record.input_tokens - 1))
    return hits
