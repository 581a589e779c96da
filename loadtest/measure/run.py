"""One measurement from its first load to its last: choose, play, save, say how far it is.

Knows backends by `play` alone: over HTTP or in virtual time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loadtest.measure import journal
from loadtest.measure.choice import Bounds, next_load, seconds, seconds_left
from loadtest.measure.journal import Journal
from loadtest.measure.load import Load, LoadPoint, Unmeasurable
from loadtest.measure.quiet import contradiction
from loadtest.measure.subject import Subject

MOST_DOUBTS = 3  # in a row, until another load is believed


class Measurable(Protocol):
    """What can be measured."""

    async def play(self, load: Load) -> LoadPoint:
        """Put a load on it until it is measured. Raises Unmeasurable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One load that was measured. left_s: about how long the rest takes; `None`: nothing is left.
    budget_s: what is left of the budget. doubt: why it is measured again, and with which others;
    `None`: it is believed."""

    number: int
    measurement: LoadPoint
    left_s: float | None
    budget_s: float
    doubt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureResult:
    """What was measured, and why it ended there. settled: not for want of time."""

    measured: tuple[LoadPoint, ...]
    why: str
    settled: bool


async def measure(
    backend: Measurable,
    subject: Subject,
    bounds: Bounds,
    *,
    path: Path | None,
    budget_s: float,
    on_step: Callable[[Step], None],
) -> MeasureResult:
    """Measure until it is enough, or the next load would go beyond the budget.

    path: of the journal, from which it goes on; `None`: none is kept. budget_s: in seconds of
    measuring, those of the journal not counted. What contradicts itself is measured again. Raises
    Unmeasurable for a backend that is busy, fails or goes on contradicting itself (what was
    measured before is in the journal), and InvalidFile.
    """
    measured = list(journal.load(path, subject)) if path is not None else []
    spent_s, doubts, farthest = 0.0, 0, len(measured)
    upcoming = next_load(bounds, measured, subject.profile)
    while isinstance(upcoming, Load):
        if spent_s + seconds(bounds, upcoming, measured) > budget_s:
            why = f"the budget of {budget_s / 60:g} min is spent"
            return MeasureResult(measured=tuple(measured), why=why, settled=False)
        found = await backend.play(upcoming)
        doubt = contradiction([*measured, found])
        if doubt is not None:
            doubts += 1
            if doubts > MOST_DOUBTS:
                raise Unmeasurable(f"the backend is busy, or not what it was: {doubt.text}")
        measured.append(found)
        number = len(measured)
        if doubt is not None:
            measured = [one for one in measured if one not in doubt.again]
        elif number > farthest:
            farthest, doubts = number, 0
        spent_s += found.seconds
        if path is not None:
            journal.save(path, Journal(subject=subject, measured=tuple(measured)))
        upcoming = next_load(bounds, measured, subject.profile)
        left_s = None
        if isinstance(upcoming, Load):
            left_s = seconds_left(bounds, upcoming, measured)
        on_step(
            Step(
                number=number,
                measurement=found,
                left_s=left_s,
                budget_s=budget_s - spent_s,
                doubt=None if doubt is None else doubt.text,
            )
        )
    return MeasureResult(measured=tuple(measured), why=upcoming.why, settled=True)
