"""Where requests wait when every backend is full: first come, first served, bounded, with a
deadline.
"""

import asyncio
from collections import deque

from gateway.errors import Saturated


class Queue:
    """Wakes its head whenever a lease is given back."""

    def __init__(self, *, limit: int, timeout_s: float) -> None:
        """limit: how many may wait. timeout_s: how long."""
        self._limit = limit
        self._timeout_s = timeout_s
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Queue {len(self)} of {self._limit}>"

    async def wait(self, *, deadline_s: float, again: bool) -> None:
        """Waits to be woken, at the head if it was woken before (`again`), else at the end.

        deadline_s: on the loop's clock. Raises Saturated when the queue is full or time is up.
        """
        loop = asyncio.get_running_loop()
        if len(self._waiting) >= self._limit and not again:
            raise Saturated("Every backend is full and so is the queue.", retry_after_s=2.0)
        turn: asyncio.Future[None] = loop.create_future()
        (self._waiting.appendleft if again else self._waiting.append)(turn)
        timer = loop.call_at(deadline_s, self._late, turn)
        woken = False
        try:
            await turn
            woken = True
        finally:
            timer.cancel()
            if not woken and turn in self._waiting:
                self._waiting.remove(turn)
            elif not woken and not turn.cancelled():
                self.wake()  # it was this one's turn, and it left: the next takes it

    def _late(self, turn: "asyncio.Future[None]") -> None:
        if not turn.done():
            message = f"Every backend is full; waited {self._timeout_s:g} s."
            turn.set_exception(Saturated(message, retry_after_s=2.0))

    async def hold(self, *, until_s: float, again: bool) -> bool:
        """Waits like `wait`, but for room that is better: whether it was woken; never raises."""
        try:
            await self.wait(deadline_s=until_s, again=again)
        except Saturated:
            return False
        return True

    def deadline(self, now_s: float) -> float:
        """Until when a request that came now may wait."""
        return now_s + self._timeout_s

    def wake(self) -> None:
        """Lets the first in line try again."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
