"""The queue of requests that wait for a backend with room: first in, first out, bounded, with a
deadline for each. Knows no backend.
"""

import asyncio
from collections import deque

from gateway.errors import Saturated


class Queue:
    """Requests that wait; `wake` is called when a lease is released, and may have made room."""

    def __init__(self, *, limit: int, timeout_s: float) -> None:
        """limit: most requests that may wait. timeout_s: longest wait of one."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.configure(limit=limit, timeout_s=timeout_s)

    def configure(self, *, limit: int, timeout_s: float) -> None:
        """Change the bounds; requests that wait already keep their deadlines."""
        self._limit = limit
        self._timeout_s = timeout_s

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Queue {len(self)} of {self._limit}>"

    async def wait(self, *, deadline_s: float, again: bool) -> None:
        """Wait for `wake`: at the end of the queue, or at its head if this request was woken before
        and found no room (`again`).

        deadline_s: on the loop's clock. Raises Saturated when the queue is full, and at the
        deadline.
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
                self.wake()  # this request was woken and its client left: its turn goes to the next

    def _late(self, turn: "asyncio.Future[None]") -> None:
        if not turn.done():
            message = f"Every backend is full; waited {self._timeout_s:g} s."
            turn.set_exception(Saturated(message, retry_after_s=2.0))

    async def hold(self, *, until_s: float, again: bool) -> bool:
        """Wait like `wait`; return whether the request was woken, instead of raising."""
        try:
            await self.wait(deadline_s=until_s, again=again)
        except Saturated:
            return False
        return True

    def deadline(self, now_s: float) -> float:
        """The time until which a request that arrived now may wait."""
        return now_s + self._timeout_s

    def wake(self) -> None:
        """Let the request at the head try again."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
