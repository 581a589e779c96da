"""The bill: by hour, by model and by caller, from the hours of the journal. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.journal.entry import CallerBill, Entry, Happened, ModelBill

HOURS = 72  # shown at most
Bill = CallerBill | ModelBill


def bill_view(
    entries: Sequence[Entry],
    this_hour: Happened | None,
    now: str,
    hits: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The last hours, the newest first, and what each model and each caller had of them.

    this_hour: what has happened since the last full one, until `now`. hits: prefix hits by caller
    and pool, as the admin port tells them.
    """
    hours = [(e.at, e.happened) for e in entries if e.kind == "hour" and e.happened is not None]
    full = len(hours)
    if this_hour is not None:
        hours.append((now, this_hour))
    hours = hours[-HOURS:]
    models: dict[str, list[float]] = {}
    callers: dict[str, list[float]] = {}
    for _, happened in hours:
        _add(models, happened.models)
        _add(callers, happened.callers)
    singles = [happened.usd_single for _, happened in hours]
    cached = _cached(hits)
    return {
        "hours": [_hour(at, happened) for at, happened in reversed(hours)],
        "complete": full,
        "total": {
            "usd_running": round(sum(h.usd_running for _, h in hours), 6),
            "usd_planned": round(sum(h.usd_planned for _, h in hours), 6),
            "usd_single": None
            if None in singles or not singles
            else round(sum(one or 0.0 for one in singles), 6),
            "usd_idle": round(sum(h.usd_idle for _, h in hours), 6),
        },
        "models": _rows(models),
        "callers": [row | {"cached": cached.get(row["name"])} for row in _rows(callers)],
    }


def _hour(at: str, happened: Happened) -> dict[str, Any]:
    share = happened.attainment
    return {
        "to": at,
        "seconds": happened.seconds,
        "requests": happened.requests,
        "refused": happened.refused,
        "attainment": None if share is None else round(share, 6),
        "usd_running": happened.usd_running,
        "usd_planned": happened.usd_planned,
        "usd_single": happened.usd_single,
        "usd_idle": happened.usd_idle,
    }


def _add(sums: dict[str, list[float]], bills: Mapping[str, Bill]) -> None:
    for name, bill in bills.items():
        row = sums.setdefault(name, [0.0] * 4)
        own = (bill.requests, bill.input_tokens, bill.output_tokens, bill.usd)
        for number, value in enumerate(own):
            row[number] += value


def _rows(sums: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """The largest bills first."""
    return [
        {
            "name": name,
            "requests": int(row[0]),
            "input_tokens": int(row[1]),
            "output_tokens": int(row[2]),
            "usd": round(row[3], 6),
        }
        for name, row in sorted(sums.items(), key=lambda item: (-item[1][3], item[0]))
    ]


def _cached(hits: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By caller, the share of the prompt tokens that engines found computed."""
    sums: dict[str, list[int]] = {}
    for row in hits:
        own = sums.setdefault(row["caller"], [0, 0])
        own[0] += row["prompt_tokens"]
        own[1] += row["cached_tokens"]
    return {caller: round(own[1] / own[0], 4) for caller, own in sums.items() if own[0]}
