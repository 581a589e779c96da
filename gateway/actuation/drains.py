"""Which backends are drained, why and until when: by people, by a notice that a spot instance ends,
or because the pool is to have fewer. Pure. Knows no fleet but by names.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.cluster.drain_board import DrainNote
from gateway.routing.membership import FINISHING, LEAVING, Drained

# With notice of no more than this, streams that have not begun are begun elsewhere at once: AWS
# gives 120 s, GCP and Azure 30 s.
HASTE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainedBackend:
    """One backend. why: one line. since_s: seconds since 1970. ends_s: when it will be gone, `None`
    if nobody said. shrinking: whether the loop that scales chose it to be stopped. asked: whether
    people or a notice asked for it, so that it outlives this process."""

    backend: str
    pool: str
    url: str
    why: str
    since_s: float
    ends_s: float | None = None
    shrinking: bool = False
    asked: bool = False

    @property
    def drained(self) -> Drained:
        """How it is drained."""
        return how(self.since_s, self.ends_s)

    @property
    def note(self) -> DrainNote:
        """What another gateway has to know."""
        return DrainNote(
            pool=self.pool, url=self.url, why=self.why, since_s=self.since_s, ends_s=self.ends_s
        )


def how(since_s: float, ends_s: float | None) -> Drained:
    """How a backend is drained that will be gone at this time; `None`: nobody said when."""
    hasty = ends_s is not None and ends_s - since_s <= HASTE_S
    return LEAVING if hasty else FINISHING


class Drains:
    """All of them, by name of the backend."""

    def __init__(self) -> None:
        self.all: dict[str, DrainedBackend] = {}
        self._missed: list[DrainNote] = []

    def __repr__(self) -> str:
        return f"<Drains of {', '.join(self.all) or 'nothing'}>"

    def begin(self, drain: DrainedBackend) -> None:
        """Drain a backend. What was said of it before is forgotten, but for what it is told again
        without an end; one that people drain is none that the loop may take back."""
        before = self.all.get(drain.backend)
        if before is not None and drain.shrinking and not before.shrinking:
            return
        if before is not None and drain.ends_s is None:
            drain = replace(drain, ends_s=before.ends_s)
        self.all[drain.backend] = drain

    def end(self, backend: str) -> DrainedBackend | None:
        """It may get requests again; `None` if it was not drained."""
        return self.all.pop(backend, None)

    def keep(self, backends: Collection[str]) -> None:
        """Forget those that are not among these: they are gone."""
        self.all = {name: drain for name, drain in self.all.items() if name in backends}

    def shrinking(self, pool: str) -> list[DrainedBackend]:
        """Those of a pool that the loop chose, the newest first."""
        own = [one for one in self.all.values() if one.shrinking and one.pool == pool]
        return own[::-1]

    def wanted(self) -> dict[str, Drained]:
        """As a membership takes it."""
        return {name: drain.drained for name, drain in self.all.items()}

    def notes(self) -> tuple[DrainNote, ...]:
        """As other gateways are told."""
        return tuple(one.note for one in self.all.values())

    def asked(self) -> tuple[DrainNote, ...]:
        """What a gateway that comes after this one is to drain, too."""
        return (*(one.note for one in self.all.values() if one.asked), *self._missed)

    def remember(self, notes: Iterable[DrainNote]) -> None:
        """What was asked of a gateway before this one; drained when the backend is found."""
        self._missed += notes

    @property
    def awaits(self) -> bool:
        """Whether something of it was not found yet."""
        return bool(self._missed)

    def resume(self, names: Mapping[tuple[str, str], str], now_s: float) -> list[DrainedBackend]:
        """Drain on what was found of it. names: of the backends, by pool and URL. now_s: seconds
        since 1970, after which a drain with an end is of no backend of now."""
        resumed: list[DrainedBackend] = []
        missed, self._missed = self._missed, []
        for note in missed:
            name = names.get((note.pool, note.url))
            if note.ends_s is not None and note.ends_s < now_s:
                continue
            if name is None:
                self._missed.append(note)
                continue
            drain = DrainedBackend(
                backend=name,
                pool=note.pool,
                url=note.url,
                why=note.why,
                since_s=note.since_s,
                ends_s=note.ends_s,
                asked=True,
            )
            self.begin(drain)
            resumed.append(drain)
        return resumed

    def figures(self, in_flight: Mapping[str, int], now_s: float) -> list[dict[str, Any]]:
        """As the admin port shows them. in_flight: sequences there, by name. now_s: seconds since
        1970."""
        return [
            {
                "backend": one.backend,
                "pool": one.pool,
                "url": one.url,
                "why": one.why,
                "age_s": round(now_s - one.since_s, 1),
                "ends_in_s": None if one.ends_s is None else round(one.ends_s - now_s, 1),
                "in_flight": in_flight.get(one.backend, 0),
            }
            for one in self.all.values()
        ]
