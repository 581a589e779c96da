"""Whether a backend serves nobody else: by its metrics, or by timing that contradicts itself. Pure.

The names of the metrics are the gateway's, a row per engine.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.proxy.engines import DIALECTS
from loadtest.measure.load import Load, LoadPoint

SAMPLE = re.compile(
    r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?: |$)", re.ASCII | re.I
)
LABEL = re.compile(r'(\w+)="([^"]*)"', re.ASCII)
KV_TOKENS = "sglang:max_total_num_tokens"
CACHE_CONFIG = "vllm:cache_config_info"
FASTER = 0.8  # with more users, of the TPOT with fewer: by chance it is not that
# Tokens of one answer that came in one piece: what an engine makes in one step by speculation, or
# sends together when it is told to, is less.
AT_ONCE = 16.0
APART = 1.5  # the slowest TPOT of one user over the fastest, while nobody else is served


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What an engine's metrics say now: requests in its batch and in its queue, the share of the KV
    cache in use, and how many tokens fit into it. `None`: it does not say."""

    running: int
    waiting: int
    kv_used: float | None
    kv_tokens: int | None

    @property
    def requests(self) -> int:
        return self.running + self.waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why loads cannot be believed. again: those; one of them may be right."""

    text: str
    again: tuple[LoadPoint, ...]


def read_gauges(page: str) -> Gauges | None:
    """The gauges on a page of Prometheus text; `None` if it is that of no engine that we know."""
    samples = [match for match in map(SAMPLE.match, page.splitlines()) if match]
    values: dict[str, float] = {}
    kv_tokens: int | None = None
    for match in samples:
        name, labels, value = match[1], dict(LABEL.findall(match[2] or "")), float(match[3])
        values[name] = values.get(name, 0.0) + value
        blocks, block = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
        if name == CACHE_CONFIG and blocks.isdigit() and block.isdigit():
            kv_tokens = int(blocks) * int(block)
        elif name == KV_TOKENS:
            kv_tokens = int(value)
    for metrics in (dialect.metrics for dialect in DIALECTS.values()):
        if metrics.running in values:
            waiting = values.get(metrics.waiting or "", 0.0)
            return Gauges(
                running=round(values[metrics.running]),
                waiting=round(waiting),
                kv_used=values.get(metrics.kv_used or ""),
                kv_tokens=kv_tokens,
            )
    return None


def strangers(load: Load, seen: Sequence[Gauges]) -> str | None:
    """What says that others are served too, beside the users of this load; `None`: nothing."""
    most = max((gauges.requests for gauges in seen), default=0)
    if most > load.users:
        return f"it serves {most} requests, and only {load.users} are ours"
    return None


def seats(load: Load, seen: Sequence[Gauges]) -> int | None:
    """Requests in the batch while others waited although there was memory: the engine's limit."""
    full = [
        gauges.running
        for gauges in seen
        if gauges.waiting and gauges.requests == load.users and (gauges.kv_used or 1.0) < 0.8
    ]
    # A prompt that has just come waits for an iteration too: the same number, more than once.
    return full[0] if len(full) > 2 and len(set(full)) == 1 else None


def contradiction(measured: Sequence[LoadPoint]) -> Doubt | None:
    """What an engine without other work does not show; `None`: nothing."""
    for one in measured:
        if one.at_once is not None and one.at_once > AT_ONCE:
            text = (
                f"{one.at_once:.0f} tokens of an answer came at once: something on the way holds "
                "streams back, or the server has no CPU to send them"
            )
            return Doubt(text=text, again=(one,))
        if one.load.users == 1 and one.spread > APART:
            text = (
                f"one request at a time, of one size, took {one.spread:.1f} times as long per "
                "token as another"
            )
            return Doubt(text=text, again=(one,))
        for other in measured:
            more = one.load.size == other.load.size and one.load.users > other.load.users
            if more and one.tpot_s < FASTER * other.tpot_s:
                text = (
                    f"it was faster with {one.load.users} users ({one.tpot_s * 1e3:.1f} ms per "
                    f"token) than with {other.load.users} ({other.tpot_s * 1e3:.1f} ms)"
                )
                return Doubt(text=text, again=(one, other))
    return None
