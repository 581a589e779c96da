"""A process with a pipe to it, which ends when this end of the pipe is closed."""

import asyncio
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from gateway.runtime import without_signals

STOP_S = 10.0  # for a clean exit; then kill


class PipedProcess:
    """The process, which runs from now on. pipe: this end of the pipe; if the process dies, to read
    from it is an EOFError."""

    def __init__(self, main: Callable[..., None], *arguments: Any) -> None:
        """main: of a module; called with the other end of the pipe and these arguments. It is to
        return when that end reads EOF."""
        context = get_context("spawn")  # and not fork: this process has a running event loop
        self.pipe, there = context.Pipe()
        self._process = context.Process(target=main, args=(there, *arguments), daemon=True)
        with without_signals(signal.SIGINT):
            self._process.start()
        there.close()  # the child has its own

    def __repr__(self) -> str:
        return f"<PipedProcess {self._process.pid}>"

    async def aclose(self) -> None:
        """End the process."""
        self.pipe.close()
        await asyncio.to_thread(self._process.join, STOP_S)
        if self._process.is_alive():
            self._process.kill()


def received(pipe: Connection) -> Any:
    """The next value of a pipe, `None` at its end. Blocks."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None
