"""Says what the loop that scales does, and why not, once each: in the log and in the journal."""

import logging

from gateway.journal.journal import DecisionJournal

log = logging.getLogger("cuvee.scaling")


class Chronicle:
    """Lines about pools."""

    def __init__(self, journal: DecisionJournal) -> None:
        self._journal = journal
        self._told: dict[tuple[str, str], str | None] = {}

    def __repr__(self) -> str:
        return f"<Chronicle of {len(self._told)} matters>"

    def say(self, text: str, level: int = logging.INFO, **backends: int) -> None:
        """One line. backends: by pool, that are wished."""
        log.log(level, "%s", text)
        self._journal.scaled(text, backends)

    def once(self, pool: str, matter: str, text: str | None, **backends: int) -> None:
        """One line if it says another thing of a matter than the last time, numbers aside. `None`:
        there is nothing to say of it now."""
        words = None if text is None else "".join(c for c in text if not c.isdigit() and c != ".")
        if words != self._told.get((pool, matter)) and text is not None:
            self.say(text, **backends)
        self._told[pool, matter] = words
