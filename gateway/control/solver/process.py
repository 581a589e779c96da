"""Solves in a process of its own, which is restarted when a solve takes too long.

A thread would share the interpreter lock with the data path; a process does not. Tasks are sent by
name, so that only that process imports the solver. Searching by playing fleets takes a minute, for
which no solve may wait: it has a process that ends with it. Knows nothing of when to plan.
"""

import asyncio
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Any

from gateway.control.solver.child import NICENESS, SEAL_NICENESS, attach, perform
from gateway.control.solver.compare import Comparison
from gateway.runtime import without_signals
from planner.errors import SolverFailed
from planner.model.plan import Plan
from planner.program.request import PlanRequest

PLAN = "gateway.control.solver.tasks:plan"
COMPARE = "gateway.control.solver.compare:compare"

COMPARE_S = 60.0  # limit of a comparison, which is not limited by the user
# Limit of a search on the clock. It gives way to requests, and ends with what it knows when its CPU
# time is up, so only a process that gets nearly no time comes to this.
SEAL_S = 600.0
SEAL_CPU_S = 60.0  # if nothing else is configured
START_S = 60.0  # more for the first task of a process, which imports the solver on a busy machine


class TaskProcess:
    """A process that performs tasks, one after the other. It starts with the first task."""

    def __init__(self, niceness: int) -> None:
        """niceness: of the process, see `child`."""
        self._niceness = niceness
        self._turn = asyncio.Lock()  # ending a task ends the process: no other may be in it
        self._pool: ProcessPoolExecutor | None = None

    @property
    def pid(self) -> int | None:
        """Id of the process; `None` before the first task."""
        workers = self._pool._processes if self._pool else None  # public only from Python 3.14 on
        return next(iter(workers or ()), None)

    async def perform(self, limit_s: float, task: str, *arguments: object) -> Any:
        """Perform a task, at its turn. Raises SolverFailed if the process dies or the task exceeds
        the limit."""
        async with self._turn:
            return await self._perform(limit_s, task, arguments)

    async def _perform(self, limit_s: float, task: str, arguments: tuple[object, ...]) -> Any:
        try:
            with without_signals(signal.SIGHUP, signal.SIGINT):
                if self._pool is None:
                    # spawn: a fork would copy the event loop's sockets and other threads' locks.
                    context = get_context("spawn")
                    self._pool = ProcessPoolExecutor(
                        1, mp_context=context, initializer=attach, initargs=(self._niceness,)
                    )
                    limit_s += START_S
                work = self._pool.submit(perform, task, *arguments)
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            self.stop()
            raise SolverFailed(f"no answer within {limit_s:g} s") from None
        except asyncio.CancelledError:  # nobody waits for it, and the next task should not have to
            self.stop()
            raise
        except BrokenProcessPool as error:
            self.stop()
            raise SolverFailed("the solver's process died") from error

    def stop(self) -> None:
        """End the process at once, even in the middle of a task."""
        if self._pool is None:
            return
        workers = list((self._pool._processes or {}).values())  # public only from Python 3.14 on
        for worker in workers:
            worker.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


class Solver:
    """The solver's processes; a context manager.

    limit_s: of one solve. seal_cpu_s: CPU seconds of one search; 0: there is none.
    """

    def __init__(
        self, *, limit_s: float, sealer: str | None = None, seal_cpu_s: float = SEAL_CPU_S
    ) -> None:
        """limit_s: of one solve. sealer: `module:function` that takes a request, a plan for it and
        CPU seconds, and returns what `seal` does; `None`: plans get no certificate."""
        self.limit_s = limit_s
        self.seal_cpu_s = seal_cpu_s
        self._sealer = sealer
        self._solves = TaskProcess(NICENESS)
        self._seals = TaskProcess(SEAL_NICENESS)

    def __enter__(self) -> "Solver":
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._solves.stop()
        self._seals.stop()

    @property
    def pid(self) -> int | None:
        """Id of the process that solves; `None` before the first task."""
        return self._solves.pid

    async def plan(self, request: PlanRequest) -> Plan:
        """Solve. Raises SolverFailed when the solve fails or exceeds the limit."""
        plan: Plan = await self._solves.perform(self.limit_s, PLAN, request)
        return plan

    async def compare(self, request: PlanRequest, plan: Plan, candidate: Plan) -> Comparison:
        """Compare the plan in force with a candidate. Raises SolverFailed as `plan` does."""
        comparison: Comparison = await self._solves.perform(
            COMPARE_S, COMPARE, request, plan, candidate
        )
        return comparison

    async def seal(self, request: PlanRequest, plan: Plan) -> tuple[Plan, Plan | None]:
        """The plan with its certificate, and the cheapest certified plan, `None` where there is
        none; takes a minute. Raises SolverFailed as `plan` does."""
        if self._sealer is None or not self.seal_cpu_s:
            return plan, None
        try:
            found: tuple[Plan, Plan | None] = await self._seals.perform(
                SEAL_S, self._sealer, request, plan, self.seal_cpu_s
            )
        finally:
            self._seals.stop()  # its memory is better used by others until demand moves
        return found
