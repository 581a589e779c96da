"""The journal as cause and effect: each plan beside the one before, and what came of it. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.journal.entry import Entry, Happened, PlanNote

MOST = 200  # decisions that are shown


def decisions(
    entries: Sequence[Entry],
    in_force: PlanNote | None = None,
    so_far: Happened | None = None,
    *,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """The last entries, the newest first. in_force, so_far: the plan in force, and what has
    happened under it.

    An entry that only tells what happened under a plan stands beside the entry of that plan, which
    then has its certificate; the hours are the bill's.
    """
    outcomes = {id(one): (ended, after) for one, ended, after in _outcomes(entries)}
    current = next((e for e in reversed(entries) if e.kind in ("plan", "start")), None)
    shown = [entry for entry in entries if entry.kind not in ("result", "hour")][-most:]
    made = []
    for entry in reversed(shown):
        known, happened = outcomes.get(id(entry), (entry.plan, None))
        running = entry is current and id(entry) not in outcomes and in_force is not None
        if running:
            known, happened = in_force, so_far
        made.append(_decision(entry, known, happened, running=running))
    return made


def _outcomes(entries: Iterable[Entry]) -> Iterator[tuple[Entry, PlanNote, Happened]]:
    """Each entry that put a plan in force, with this plan at its end, and what happened under it.
    A plan ends where its result is told, or where the gateway stops."""
    plan: Entry | None = None
    for entry in entries:
        if entry.kind in ("result", "stop") and entry.before is not None:
            known = None if plan is None else plan.plan
            same = known is not None and known.plan_id == entry.before.plan_id
            if plan is not None and same and entry.happened is not None:
                yield plan, entry.before, entry.happened
            plan = None
        elif entry.kind in ("plan", "start"):
            plan = entry


def _decision(
    entry: Entry, plan: PlanNote | None, happened: Happened | None, *, running: bool
) -> dict[str, Any]:
    """One line of the history."""
    before = entry.before if entry.kind == "plan" else None
    return {
        "at": entry.at,
        "kind": entry.kind,
        "why": entry.cause,
        "looks": entry.looks,
        "since": entry.since,
        "rate": None if plan is None else plan.requests_per_s,
        "rate_before": None if before is None else before.requests_per_s,
        "backends": _counts(entry, plan),
        "changes": [] if plan is None or before is None else _changes(before, plan),
        "usd": None if plan is None else plan.usd_per_hour,
        "usd_before": None if before is None else before.usd_per_hour,
        "attainment": None if plan is None else plan.attainment,
        "target": None if plan is None else plan.target,
        "single_gpu": None if plan is None else plan.single_gpu,
        "single_usd": None if plan is None else plan.single_usd_per_hour,
        "plan_id": None if plan is None else plan.plan_id,
        "in_force": running,
        "happened": None if happened is None else _happened(happened),
    }


def _counts(entry: Entry, plan: PlanNote | None) -> Mapping[str, int] | None:
    return entry.backends if plan is None else plan.backends


def _changes(before: PlanNote, after: PlanNote) -> list[list[Any]]:
    """Pools of which the number of backends is another one: name, before, after."""
    names = dict.fromkeys([*before.backends, *after.backends])
    counts = [[n, before.backends.get(n, 0), after.backends.get(n, 0)] for n in names]
    return [row for row in counts if row[1] != row[2]]


def _happened(one: Happened) -> dict[str, Any]:
    share = one.attainment
    return {
        "seconds": one.seconds,
        "requests": one.requests,
        "refused": one.refused,
        "attainment": None if share is None else round(share, 6),
        "usd_planned": one.usd_planned,
        "usd_running": one.usd_running,
        "usd_single": one.usd_single,
    }
