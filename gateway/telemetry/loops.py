"""How the loops of the control plane are: when each last went well, and what went wrong. Pure."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class LoopRecord:
    """One loop. good_at_s: when it last did its work, seconds since 1970; `None`: not yet.
    failures: how often it could not. error: why it could not the last time, `None` if it went well
    since."""

    good_at_s: float | None = None
    failures: int = 0
    error: str | None = None


class Loops:
    """All loops of one gateway, by name. A loop is known from its first `good` or `failed`."""

    def __init__(self) -> None:
        self.records: dict[str, LoopRecord] = {}

    def __repr__(self) -> str:
        return f"<Loops {', '.join(self.records)}>"

    def good(self, loop: str, now_s: float) -> None:
        """A loop did its work. now_s: seconds since 1970."""
        record = self._of(loop)
        record.good_at_s, record.error = now_s, None

    def failed(self, loop: str, error: str) -> None:
        """A loop could not do its work. error: one line."""
        record = self._of(loop)
        record.failures += 1
        record.error = error

    def forget(self, loop: str) -> None:
        """A loop runs no more."""
        self.records.pop(loop, None)

    def figures(self) -> dict[str, dict[str, Any]]:
        """As the admin port shows them."""
        return {
            name: {
                "good_at_s": record.good_at_s,
                "failures": record.failures,
                "error": record.error,
            }
            for name, record in self.records.items()
        }

    def _of(self, loop: str) -> LoopRecord:
        return self.records.setdefault(loop, LoopRecord())
