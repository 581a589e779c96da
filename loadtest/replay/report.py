"""What a replay amounts to: records in, summary out. Pure; knows nothing of sending or of servers.

Percentiles interpolate linearly between order statistics. The attainment's interval is Wilson's
score interval (1927), which stays inside [0, 1] and is honest near 100 %.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.table import Table

from loadtest.replay.record import Record
from planner.slo import Slo

Z_95 = 1.959963984540054  # the 97.5 % point of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Of one latency, in seconds, over the requests that have it."""

    p50_s: float
    p90_s: float
    p99_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """The share of requests that met the SLO, failed ones included, with its 95 % interval."""

    slo: Slo
    met: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestGroup:
    """The requests of one pool, bucket, decision or kind of error.

    share: of all requests. met: how many met the SLO; `None` without an SLO.
    """

    name: str
    requests: int
    share: float
    met: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySummary:
    """A replay in figures.

    duration_s: from the first request sent to the last reply's end. requests_per_s,
    output_tokens_per_s: completed requests, and all output tokens received, over duration_s.
    cached_tokens: of the input, prefix hits. lag_p99_s: of the generator itself. ttft, tpot: of
    requests without error.
    errors, pools, buckets, decisions: largest first; "" for requests without a receipt.
    cells: (bucket, pool, requests), sorted.
    """

    requests: int
    failed: int
    duration_s: float
    requests_per_s: float
    output_tokens_per_s: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    lag_p99_s: float
    ttft: Percentiles | None
    tpot: Percentiles | None
    attainment: Attainment | None
    errors: tuple[RequestGroup, ...]
    pools: tuple[RequestGroup, ...]
    buckets: tuple[RequestGroup, ...]
    decisions: tuple[RequestGroup, ...]
    cells: tuple[tuple[str, str, int], ...]


def summarise(records: Sequence[Record], slo: Slo | None = None) -> ReplaySummary:
    """Add up a replay. Without an SLO there is no attainment."""
    good = [record for record in records if record.error is None]
    ends = [record.sent_s + record.e2e_s for record in records]
    duration_s = max(ends) - min(record.sent_s for record in records) if records else 0.0
    tokens = sum(record.output_tokens for record in records)
    cells = Counter((record.bucket or "", record.pool or "") for record in records)
    return ReplaySummary(
        requests=len(records),
        failed=len(records) - len(good),
        duration_s=duration_s,
        requests_per_s=len(good) / duration_s if duration_s else 0.0,
        output_tokens_per_s=tokens / duration_s if duration_s else 0.0,
        input_tokens=sum(record.input_tokens for record in records),
        cached_tokens=sum(record.cached_tokens for record in records),
        output_tokens=tokens,
        lag_p99_s=float(np.percentile([r.lag_s for r in records], 99)) if records else 0.0,
        ttft=percentiles(record.ttft_s for record in good),
        tpot=percentiles(record.tpot_s for record in good),
        attainment=attainment(records, slo) if slo and records else None,
        errors=_groups([r for r in records if r.error], "error", slo, of=len(records)),
        pools=_groups(records, "pool", slo),
        buckets=_groups(records, "bucket", slo),
        decisions=_groups(records, "decision", slo),
        cells=tuple((*cell, count) for cell, count in sorted(cells.items())),
    )


def met_slo(record: Record, slo: Slo) -> bool:
    """Whether one request met the SLO; a failed one did not, however fast it failed."""
    return record.error is None and slo.met_by(record.ttft_s, record.tpot_s)


def attainment(records: Sequence[Record], slo: Slo) -> Attainment:
    """Share of records within the SLO, with Wilson's interval. Needs at least one record.

    The interval is for independent requests; those of one burst are not quite, so the true one is
    wider.
    """
    met = sum(met_slo(record, slo) for record in records)
    low, high = wilson_interval(met, len(records))
    return Attainment(slo=slo, met=met, share=met / len(records), low=low, high=high)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927); (0, 1) without a trial."""
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, Z_95**2 / trials
    middle = share + spread / 2
    half = (share * (1 - share) * spread + spread**2 / 4) ** 0.5
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    # At the ends the bound is 0 or 1 exactly; rounding must not say otherwise.
    return (low if successes else 0.0), (high if successes < trials else 1.0)


def percentiles(values: Iterable[float | None]) -> Percentiles | None:
    """Percentiles of the known values; `None` if none is known."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    p50, p90, p99 = np.percentile(known, (50, 90, 99)).tolist()
    return Percentiles(p50_s=p50, p90_s=p90, p99_s=p99)


def to_json(summary: ReplaySummary) -> dict[str, object]:
    """The summary as plain JSON values, by the names of its fields."""
    return asdict(summary)


def tables(summary: ReplaySummary) -> tuple[Table, ...]:
    """The summary for a terminal: the whole, then errors, pools, buckets and decisions if any."""
    whole = Table(title="Replay", show_header=False, title_justify="left")
    for name, value in _lines(summary):
        whole.add_row(name, value)
    grouped = (
        ("Errors", summary.errors),
        ("Pools", summary.pools),
        ("Buckets", summary.buckets),
        ("Decisions", summary.decisions),
    )
    return (whole, *(_table(title, rows) for title, rows in grouped if any(r.name for r in rows)))


def _lines(summary: ReplaySummary) -> list[tuple[str, str]]:
    lines = [
        ("requests", f"{summary.requests}, {summary.failed} failed"),
        ("rate", f"{summary.requests_per_s:.2f} requests/s over {summary.duration_s:.1f} s"),
        ("tokens", f"{summary.output_tokens_per_s:.0f} output tokens/s"),
        ("prefix hits", f"{_share(summary.cached_tokens, summary.input_tokens)} of the prompts"),
        ("TTFT p50 / p90 / p99", _milliseconds(summary.ttft)),
        ("TPOT p50 / p90 / p99", _milliseconds(summary.tpot)),
        ("generator's own lag p99", f"{1e3 * summary.lag_p99_s:.1f} ms"),
    ]
    if attained := summary.attainment:
        promise = f"TTFT {attained.slo.ttft_s:g} s, TPOT {attained.slo.tpot_s:g} s"
        interval = f"95% interval {attained.low:.2%}–{attained.high:.2%}"
        lines.append((f"attainment of {promise}", f"{attained.share:.2%} ({interval})"))
    return lines


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _milliseconds(values: Percentiles | None) -> str:
    if values is None:
        return "–"
    return " / ".join(f"{1e3 * v:.1f}" for v in (values.p50_s, values.p90_s, values.p99_s)) + " ms"


def _table(title: str, rows: Sequence[RequestGroup]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(title.lower().removesuffix("s"))
    for heading in ("requests", "share", "within SLO"):
        table.add_column(heading, justify="right")
    for row in rows:
        within = "–" if row.met is None else f"{row.met / row.requests:.1%}"
        table.add_row(row.name or "–", str(row.requests), f"{row.share:.1%}", within)
    return table


def _groups(
    records: Sequence[Record], field: str, slo: Slo | None, of: int | None = None
) -> tuple[RequestGroup, ...]:
    """Group by a field: the largest group first, equal ones by name.

    of: the number of requests that shares are of; default: all records.
    """
    names = [getattr(record, field) or "" for record in records]
    counts = Counter(names)
    met = Counter(n for n, r in zip(names, records, strict=True) if slo and met_slo(r, slo))
    return tuple(
        RequestGroup(
            name=name,
            requests=count,
            share=count / (of or len(records)),
            met=met[name] if slo else None,
        )
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
