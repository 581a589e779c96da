"""What one look of the doctor has found, and what all of them come to. Pure."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, NamedTuple


class Severity(IntEnum):
    """How one check ended, better ones first. A note is to be known and no fault."""

    FINE = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3


class Examined(NamedTuple):
    """One check. name: within its group. text: what was found, one line. hint: what to do, empty if
    there is nothing to do. page: where the documents say more."""

    group: str
    name: str
    outcome: Severity
    text: str
    hint: str = ""
    page: str = ""

    def figures(self) -> dict[str, Any]:
        """As plain values."""
        return self._asdict() | {"outcome": self.outcome.name.lower()}


class CheckGroup:
    """Makes the checks of one group, which share its page."""

    def __init__(self, name: str, page: str) -> None:
        self.name = name
        self._page = page

    def __repr__(self) -> str:
        return f"<CheckGroup {self.name}>"

    def fine(self, name: str, text: str) -> Examined:
        """Nothing is to be done."""
        return Examined(self.name, name, Severity.FINE, text)

    def note(self, name: str, text: str, hint: str, anchor: str = "") -> Examined:
        """To be known, and no fault."""
        return self._found(Severity.NOTE, name, text, hint, anchor)

    def warning(self, name: str, text: str, hint: str, anchor: str = "") -> Examined:
        """It serves, and something will cost money or promises."""
        return self._found(Severity.WARNING, name, text, hint, anchor)

    def error(self, name: str, text: str, hint: str, anchor: str = "") -> Examined:
        """It does not serve, or not what it should."""
        return self._found(Severity.ERROR, name, text, hint, anchor)

    def _found(self, outcome: Severity, name: str, text: str, hint: str, anchor: str) -> Examined:
        """anchor: a page, if it begins with a name; a heading of the group's page after `#`."""
        page = self._page + anchor if anchor.startswith("#") else anchor or self._page
        return Examined(self.name, name, outcome, text, hint, page)


def exit_code(found: Iterable[Examined]) -> int:
    """0: fine, 1: warnings, 2: errors."""
    worst = max((one.outcome for one in found), default=Severity.FINE)
    return {Severity.ERROR: 2, Severity.WARNING: 1}.get(worst, 0)
