"""Pauses between tries that get longer, within a bounded time."""

import asyncio
import random


class Patience:
    """One wish's time. Pauses double, and half of each is by chance, so that what was refused
    together does not come again together."""

    def __init__(self, give_up_s: float, *, first_s: float = 0.5, longest_s: float = 10.0) -> None:
        self._clock = asyncio.get_running_loop().time
        self._due_s = self._clock() + give_up_s
        self._pause_s = first_s
        self._longest_s = longest_s

    def __repr__(self) -> str:
        return f"<Patience {self._due_s - self._clock():.1f} s>"

    async def pause(self, wanted_s: float | None = None) -> bool:
        """Wait before the next try, at least as long as was asked for; false, at once, if the time
        is over before."""
        pause_s = max(self._pause_s * random.uniform(0.5, 1.0), wanted_s or 0.0)
        self._pause_s = min(2 * self._pause_s, self._longest_s)
        if self._clock() + pause_s >= self._due_s:
            return False
        await asyncio.sleep(pause_s)
        return True
