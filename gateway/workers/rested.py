"""Says in the log when a backend no longer rests for the requests that it failed. That one begins
to is logged where it does, with the reason."""

import logging
from collections.abc import Iterable

from gateway.routing.backend import Backend

log = logging.getLogger("cuvee")


class Rested:
    """names: of the backends that rested at the last look."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __repr__(self) -> str:
        return f"<Rested, {len(self.names)} still rest>"

    def tick(self, backends: Iterable[Backend]) -> None:
        """Log those that rested at the last tick and do no longer. One that left is forgotten."""
        before, self.names = self.names, set()
        for backend in backends:
            if backend.resting:
                self.names.add(backend.name)
            elif backend.name in before:
                log.warning("backend %s gets requests again", backend.name)
