"""Reads what an engine says of itself from its `/metrics` page. No I/O.

A page of vLLM has 74 kB, of which a dozen lines are wanted: they are found by their names, and the
rest is not parsed. Which names they have is a row of `proxy/engines`.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from math import isfinite

from gateway.proxy.engines import EngineMetrics
from gateway.telemetry.engine_reading import EngineReading

LABEL = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')
# Ranks of one engine that each tell the same of the whole; ranks of data parallelism do not.
ALIKE = (b"tp_rank", b"pp_rank", b"moe_ep_rank", b"ep_rank")
MODEL = b"model_name"
AWAKE = b"awake"  # vLLM's state of an engine that does not sleep
NOTICE = "_info"  # ends the name of a metric whose labels are what it says
MOST = 1e15  # a larger number is none of requests or tokens

Labels = dict[bytes, bytes]
Sample = tuple[Labels, float]


def read(
    page: bytes, candidates: Sequence[EngineMetrics], *, models: Collection[str], at_s: float
) -> EngineReading | None:
    """What a page says by the names of the first engine that it has numbers of; `None`: of none.

    models: the engine's names of what the pool serves: where some samples have one of these, those
    of other models do not count. at_s: when the page was asked for.
    """
    page = b"\n" + page
    own = frozenset(model.encode() for model in models)
    for names in candidates:
        running = _total(page, names.running, own)
        if running is None:
            continue
        waiting = _total(page, names.waiting, own)
        return EngineReading(
            running=round(running),
            waiting=None if waiting is None else round(waiting),
            kv_used=_mean(page, names.kv_used, own),
            kv_tokens=_capacity(page, names.kv_tokens, own),
            hits=_total(page, names.hits, own),
            queries=_total(page, names.queries, own),
            sleeping=_sleeping(page, names.sleeping, own),
            at_s=at_s,
        )
    return None


def _samples(page: bytes, name: str | None, own: frozenset[bytes]) -> list[Sample]:
    """The samples of a metric that are finite and not negative, of our models if any is."""
    if name is None:
        return []
    found = list(_lines(page, b"\n" + name.encode()))
    ours = [sample for sample in found if sample[0].get(MODEL) in own]
    return ours or found


def _lines(page: bytes, start: bytes) -> Iterator[Sample]:
    at = page.find(start)
    while at >= 0:
        begin = at + len(start)
        end = page.find(b"\n", begin)
        line = page[begin:] if end < 0 else page[begin:end]
        at = page.find(start, begin)
        if line[:1] not in (b"{", b" "):  # a longer name
            continue
        labels, _, number = line.rpartition(b"}")
        try:
            value = float(number.split()[0])  # a time may follow
        except (ValueError, IndexError):
            continue
        if isfinite(value) and 0.0 <= value <= MOST:
            yield dict(LABEL.findall(labels)), value


def _ranks(page: bytes, name: str | None, own: frozenset[bytes]) -> list[float]:
    """The values by rank of data parallelism, and by whatever else a metric is divided."""
    values: dict[frozenset[tuple[bytes, bytes]], float] = {}
    for labels, value in _samples(page, name, own):
        key = frozenset(pair for pair in labels.items() if pair[0] not in ALIKE)
        values[key] = max(values.get(key, 0.0), value)
    return list(values.values())


def _total(page: bytes, name: str | None, own: frozenset[bytes]) -> float | None:
    values = _ranks(page, name, own)
    return sum(values) if values else None


def _mean(page: bytes, name: str | None, own: frozenset[bytes]) -> float | None:
    values = _ranks(page, name, own)
    return min(1.0, sum(values) / len(values)) if values else None


def _capacity(page: bytes, name: str | None, own: frozenset[bytes]) -> int | None:
    """Tokens of a KV cache: the values, or what the labels say where the metric is a notice."""
    if name is None or not name.endswith(NOTICE):
        tokens = round(_total(page, name, own) or 0.0)
        return tokens or None
    tokens = 0
    for labels, _ in _samples(page, name, own):
        blocks, block = _whole(labels.get(b"num_gpu_blocks")), _whole(labels.get(b"block_size"))
        tokens += _whole(labels.get(b"kv_cache_size_tokens")) or blocks * block
    return tokens or None


def _whole(text: bytes | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def _sleeping(page: bytes, name: str | None, own: frozenset[bytes]) -> bool | None:
    """Whether no rank is awake."""
    awake = [
        value for labels, value in _samples(page, name, own) if labels.get(b"sleep_state") == AWAKE
    ]
    return not any(awake) if awake else None
