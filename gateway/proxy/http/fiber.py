"""A coroutine that is driven by whoever has what it waits for, instead of by the event loop.

An asyncio task pays for a turn of the loop at every wait, which at a few waits a request is more
than the work between them. A strand goes on inside the very call that gives it its value: the
handler stays one coroutine in wire order and costs what callbacks cost. It may wait for a
`Promise`, and, where it does not matter, for any asyncio future. Knows nothing of HTTP.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Promise(Generic[T]):
    """One value that is given once and awaited by one strand; an error may be given instead."""

    __slots__ = ("_error", "_fiber", "_resolved", "_value")

    def __init__(self) -> None:
        self._fiber: Fiber | None = None
        self._resolved = False
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Promise {'resolved' if self._resolved else 'awaited' if self._fiber else 'open'}>"

    @property
    def resolved(self) -> bool:
        return self._resolved

    def resolve(self, value: T) -> None:
        """Whoever waits goes on now, before this returns. Again is harmless: the first counts."""
        if not self._resolved:
            self._resolved, self._value = True, value
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Whoever waits gets the error. Again is harmless: the first counts."""
        if not self._resolved:
            self._resolved, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        fiber, self._fiber = self._fiber, None
        if fiber is not None:
            fiber._go()

    def __await__(self) -> Generator["Promise[T]", None, T]:
        if not self._resolved:
            yield self
        if self._error is not None:
            raise self._error
        return self._value


class Fiber:
    """Runs one coroutine to its end.

    What the coroutine does not catch is raised in whoever woke it last.
    """

    __slots__ = ("_coroutine", "_waiting")

    def __init__(self) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._waiting: Promise[Any] | asyncio.Future[Any] | None = None

    def __repr__(self) -> str:
        return f"<Fiber waits for {self._waiting!r}>"

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs the coroutine up to its first wait, before this returns."""
        self._coroutine = coroutine
        self._step(None)

    def cancel(self, error: BaseException) -> None:
        """Raises `error` where the coroutine waits now; harmless once it has ended."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        if isinstance(waiting, Promise):
            waiting._fiber = None
        else:
            waiting.remove_done_callback(self._done)
        self._step(error)

    def _go(self) -> None:
        self._step(None)

    def _done(self, future: "asyncio.Future[Any]") -> None:
        # The loop calls back later than a future is done: the strand may be elsewhere by then.
        if self._waiting is future:
            self._step(None)

    def _step(self, error: BaseException | None) -> None:
        coroutine = self._coroutine
        assert coroutine is not None
        self._waiting = None
        try:
            found = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration:
            return
        self._waiting = found
        if type(found) is Promise:
            found._fiber = self
        else:
            found._asyncio_future_blocking = False  # as asyncio's own tasks say that they took it
            found.add_done_callback(self._done)
