"""Coroutines that are resumed by the call that brings their value, not by the event loop.

An asyncio task costs a turn of the event loop at every wait. At a few waits per request that is
more than the work between them. A fiber goes on inside the very call that resolves its promise, so
a handler stays one coroutine in wire order and costs what callbacks cost:

    asyncio task    data_received → future.set_result … turn of the loop … task: next step
    fiber           data_received → promise.resolve → coroutine.send: next step → return

A coroutine in a fiber may await a `Promise` and, where speed does not matter, any asyncio future.
It is no asyncio task: `asyncio.all_tasks` does not list it, `asyncio.current_task` is `None` or
another one, `asyncio.timeout` does not work in it, and the context variables are those of the
caller that resumes it. A debugger or a tracer must therefore get a request's context from the
request's own object. Knows nothing of HTTP.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

from gateway.errors import ClientGone

T = TypeVar("T")


class Promise(Generic[T]):
    """A value that will be given once, or an error in its place; at most one fiber awaits it."""

    __slots__ = ("_error", "_fiber", "_resolved", "_value")

    def __init__(self) -> None:
        self._fiber: Fiber | None = None
        self._resolved = False
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Promise {'resolved' if self._resolved else 'awaited' if self._fiber else 'open'}>"

    @property
    def resolved(self) -> bool:
        """Whether the value or the error was given."""
        return self._resolved

    def resolve(self, value: T) -> None:
        """Give the value; the fiber that awaits it goes on before this returns. Does nothing if a
        value or an error was given before."""
        if not self._resolved:
            self._resolved, self._value = True, value
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Give an error, in the same way."""
        if not self._resolved:
            self._resolved, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        fiber, self._fiber = self._fiber, None
        if fiber is not None:
            fiber._resume()

    def __await__(self) -> Generator["Promise[T]", None, T]:
        if not self._resolved:
            yield self
        if self._error is not None:
            raise self._error
        return self._value


class Fiber:
    """Runs one coroutine to its end.

    An exception that the coroutine does not catch is raised in the call that resumed it last.
    """

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._awaited: Promise[Any] | asyncio.Future[Any] | None = None

    def __repr__(self) -> str:
        return f"<Fiber waits for {self._awaited!r}>"

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run the coroutine up to its first wait, before this returns."""
        self._coroutine = coroutine
        self._step(None)

    def cancel(self, error: BaseException) -> None:
        """Raise `error` in the coroutine where it waits now; do nothing if it has ended."""
        awaited, self._awaited = self._awaited, None
        if awaited is None:
            return
        if isinstance(awaited, Promise):
            awaited._fiber = None
        else:
            awaited.remove_done_callback(self._on_future_done)
        self._step(error)

    def abandon(self) -> None:
        """The client closed its connection: end the coroutine where it waits."""
        self.cancel(ClientGone())

    def _resume(self) -> None:
        self._step(None)

    def _on_future_done(self, future: "asyncio.Future[Any]") -> None:
        # The event loop calls this later than the future is done, and by then the fiber may have
        # been cancelled and wait for something else.
        if self._awaited is future:
            self._step(None)

    def _step(self, error: BaseException | None) -> None:
        """Run the coroutine up to its next wait, or to its end."""
        coroutine = self._coroutine
        assert coroutine is not None
        self._awaited = None
        try:
            awaited = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration:
            return
        self._awaited = awaited
        if type(awaited) is Promise:
            awaited._fiber = self
        else:
            # Future.__await__ sets this flag to find out whether its result is yielded to a task;
            # a task clears it to say that it took the future over.
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(self._on_future_done)
