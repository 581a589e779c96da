"""An engine's sleep, as vLLM has it with `--enable-sleep-mode` and its development endpoints.

While it sleeps, health is good and requests wait. Knows no requests.
"""

import asyncio
from collections.abc import Collection

PARTS = frozenset(("weights", "kv_cache"))  # vLLM's tags: what wakes up, together or one by one
STATES = ("awake", "weights_offloaded", "discard_all")  # of the metric, the last two by level


class Slumber:
    """Whether an engine sleeps. level: 1, weights are in the host's memory; 2, they are gone;
    `None`: awake. waiting: requests that wait for it to wake up."""

    def __init__(self) -> None:
        self.level: int | None = None
        self.waiting = 0
        self._asleep: frozenset[str] = frozenset()
        self._woken = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Slumber level {self.level}, {self.waiting} wait>"

    @property
    def states(self) -> dict[str, int]:
        """The values of the metric, by state."""
        return {state: int(number == (self.level or 0)) for number, state in enumerate(STATES)}

    def begin(self, level: int) -> None:
        """Fall asleep. level: 1 or 2."""
        self.level, self._asleep = level, PARTS
        self._woken.clear()

    def wake(self, parts: Collection[str] = ()) -> None:
        """Wake up these parts, or all; requests go on when all are awake."""
        self._asleep -= frozenset(parts) or PARTS
        if not self._asleep:
            self.level = None
            self._woken.set()

    async def over(self) -> None:
        """Wait until the engine is awake."""
        if self.level is None:
            return
        self.waiting += 1
        try:
            await self._woken.wait()
        finally:
            self.waiting -= 1
