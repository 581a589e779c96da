"""Brings the orders of one pool to its actuator, one at a time, so that a slow one delays nobody.

Before backends are stopped, those that leave finish what they have. A newer order takes the place
of one that waits, also of one that waits for that. Knows no plan.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.actuation.actuator import ActuationError, Actuator, ScaleOrder

log = logging.getLogger("cuvee.scaling")

END_S = 5.0  # for the actuator to free what it holds


class Courier:
    """One pool's.

    order: the newest, until it was accepted or failed; `None`: there is none. bringing: whether the
    actuator has one.
    """

    def __init__(
        self,
        actuator: Actuator,
        *,
        prepare: Callable[[ScaleOrder], Awaitable[None]],
        done: Callable[[ScaleOrder, ActuationError | None], None],
    ) -> None:
        """prepare: returns when an order may be brought. done: called when it was accepted, or with
        why it was not; not for one that a newer one has replaced."""
        self.actuator = actuator
        self._prepare = prepare
        self._done = done
        self.order: ScaleOrder | None = None
        self._newer = asyncio.Event()
        self.bringing = False
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Courier to {self.actuator.name}, {self.order}>"

    def send(self, order: ScaleOrder) -> None:
        """Bring an order; returns at once."""
        self.order = order
        self._newer.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def drop(self) -> bool:
        """Bring no order that waits; `False` if it is too late for that."""
        if self.bringing:
            return False
        self.order = None
        self._newer.set()
        return True

    async def aclose(self) -> None:
        """Bring nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self.actuator.aclose()

    async def _run(self) -> None:
        while (order := self.order) is not None:
            self._newer.clear()
            if not await self._prepared(order):
                continue
            self.bringing = True
            try:
                error = await self._brought(order)
            finally:
                self.bringing = False
            if self.order is order:
                self.order = None
            self._done(order, error)

    async def _prepared(self, order: ScaleOrder) -> bool:
        """Whether an order may be brought; `False` if there is a newer one, or none."""
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(self._ready(order)), loop.create_task(self._newer.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self.order is order

    async def _ready(self, order: ScaleOrder) -> None:
        try:
            await self._prepare(order)
        except Exception:  # a mistake of ours; the backends may be stopped all the same
            log.exception("pool %s: those that leave could not be waited for", order.pool)

    async def _brought(self, order: ScaleOrder) -> ActuationError | None:
        try:
            await self.actuator.apply(order)
        except ActuationError as error:
            return error
        except Exception as error:  # a mistake of ours, which another try would repeat
            log.exception("pool %s: %s cannot be told", order.pool, self.actuator.name)
            return ActuationError(f"{type(error).__name__} in {self.actuator.name}")
        return None
