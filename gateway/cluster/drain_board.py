"""Which backends are drained at which gateway, so that all of a cluster leave them alone. Pure.

Backends are named by pool and URL: each gateway numbers its own.
"""

import msgspec

FRESH_S = 30.0  # what a gateway said that is not heard any more counts for so long


class DrainNote(msgspec.Struct, frozen=True, kw_only=True):
    """One backend that a gateway drains. since_s: seconds since 1970. ends_s: when it will be gone,
    `None` if nobody said."""

    pool: str
    url: str
    why: str
    since_s: float
    ends_s: float | None = None


class DrainBoard:
    """What one gateway tells, and what the others have told.

    mine: to be told with each report.
    """

    def __init__(self) -> None:
        self.mine: tuple[DrainNote, ...] = ()
        self._others: dict[str, tuple[float, tuple[DrainNote, ...]]] = {}

    def __repr__(self) -> str:
        return f"<DrainBoard, {len(self.mine)} here, of {len(self._others)} others>"

    def hear(self, gateway: str, notes: tuple[DrainNote, ...], now_s: float) -> None:
        """All that another gateway drains now. now_s: on a clock that goes on evenly."""
        if notes:
            self._others[gateway] = now_s, notes
        else:
            self._others.pop(gateway, None)

    def others(self, now_s: float) -> dict[tuple[str, str], tuple[str, DrainNote]]:
        """What the others drain, by pool and URL, with the name of one that does."""
        return {
            (note.pool, note.url): (gateway, note)
            for gateway, (heard_s, notes) in self._others.items()
            if now_s - heard_s < FRESH_S
            for note in notes
        }
