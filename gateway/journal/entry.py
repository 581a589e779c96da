"""The lines of the journal, as values and as JSON.

A line says what was decided, at what demand, and what was expected; a later one what happened.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from planner.model.plan import Plan

# start, stop: of the gateway. plan: another plan is in force. looks: looks at the demand that
# changed nothing. backends: the fleet has others. result: what happened under a plan that was
# replaced. hour: what happened in one hour of the clock. scale: backends are started or stopped.
Kind = Literal["start", "stop", "plan", "looks", "backends", "result", "hour", "scale"]


class PlanNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A plan in few words.

    backends: by pool, without those that the plan leaves empty. requests_per_s: that it is made
    for; unserved_per_s: of those, that it cannot promise anything. attainment, target: what its
    certificate says of the promise, shares, `None` without one. single_gpu,
    single_usd_per_hour: the cheapest fleet of one GPU type that serves the same.
    """

    plan_id: str
    objective: str
    usd_per_hour: float
    backends: dict[str, int]
    requests_per_s: float
    unserved_per_s: float = 0.0
    attainment: float | None = None
    target: float | None = None
    single_gpu: str | None = None
    single_usd_per_hour: float | None = None


class ModelBill(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one model got.

    usd: what its backends that ran have cost.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0


class CallerBill(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one caller got, by its id.

    usd: of what the pools cost, its part of the time that requests were in them.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0


class Happened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened in a stretch of time.

    requests: that ended; kept, missed, refused: of those with a promise, what became of it (kept
    of all three is the attainment). usd_planned: what the plans in force would have cost;
    usd_running: what the backends that ran did; usd_single: what the cheapest fleet of one GPU type
    would have, and what ran while none was known; `None` if none ever was. models, callers: the
    bill; the callers with the least are `OTHERS`. usd_idle: of pools in which there was no request:
    with it, each of the two bills comes to `usd_running`.
    """

    seconds: float
    requests: int
    kept: int = 0
    missed: int = 0
    refused: int = 0
    usd_planned: float = 0.0
    usd_running: float = 0.0
    usd_single: float | None = None
    usd_idle: float = 0.0
    models: dict[str, ModelBill] = {}
    callers: dict[str, CallerBill] = {}

    @property
    def attainment(self) -> float | None:
        """The share of the promises that were kept; `None` if there was none."""
        promised = self.kept + self.missed + self.refused
        return self.kept / promised if promised else None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. at: UTC, to the second. cause: why. plan: in force from now on; before: until now.
    looks: how many looks a line stands for, the first at `since`. backends: by pool, where they
    have changed. happened: under `before`, or in the hour."""

    at: str
    kind: Kind
    cause: str = ""
    plan: PlanNote | None = None
    before: PlanNote | None = None
    backends: dict[str, int] | None = None
    looks: int | None = None
    since: str | None = None
    happened: Happened | None = None


OTHERS = "others"  # no id of a caller is like it

_ENTRY: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


def note(plan: Plan) -> PlanNote:
    """A plan in few words."""
    certificate, single = plan.certificate, plan.cheapest_single
    return PlanNote(
        plan_id=plan.plan_id,
        objective=plan.objective,
        usd_per_hour=round(plan.usd_per_hour, 4),
        backends={n: c for n, c in zip(plan.pools, plan.backends, strict=True) if c},
        requests_per_s=round(sum(plan.rate), 4),
        unserved_per_s=round(sum(u.rate for u in plan.unserved if not u.served), 4),
        attainment=None if certificate is None else round(certificate.attainment, 6),
        target=None if certificate is None else certificate.target,
        single_gpu=None if single is None else single.gpu,
        single_usd_per_hour=None if single is None else round(single.usd_per_hour, 4),
    )


def line(entry: Entry) -> bytes:
    """An entry as a line of the file."""
    return msgspec.json.encode(entry) + b"\n"


def entries(text: bytes) -> Iterator[Entry]:
    """The entries of a file; lines that are none, such as one that a crash has cut, are left
    out."""
    for row in text.splitlines():
        try:
            yield _ENTRY.decode(row)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue


def counted(backends: Mapping[str, int]) -> str:
    """Backends by pool, for people."""
    return ", ".join(f"{count} {pool}" for pool, count in backends.items()) or "none"
