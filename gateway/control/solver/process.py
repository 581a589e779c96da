"""Solves in a process of its own, which is restarted when a solve takes too long.

A thread would share the interpreter lock with the data path; a process does not. Tasks are sent by
name, so that only that process imports the solver. Knows nothing of when to plan.
"""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Any

from gateway.control.solver.child import attach, perform
from gateway.control.solver.compare import Comparison
from gateway.runtime import without_hangup
from planner.errors import SolverFailed
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.request import PlanRequest

PLAN = "gateway.control.solver.tasks:plan"
COMPARE = "gateway.control.solver.compare:compare"

CERTIFY_S = 60.0  # limit of a certificate and of a comparison, which are not limited by the user
START_S = 60.0  # more for the first task of a process, which imports the solver on a busy machine


class Solver:
    """The solver's process; a context manager. The process starts with the first task.

    limit_s: of one solve.
    """

    def __init__(self, *, limit_s: float, certifier: str | None = None) -> None:
        """limit_s: of one solve. certifier: `module:function` that takes a plan, its demand and the
        pools, and returns the plan with a certificate; `None`: plans get no certificate."""
        self.limit_s = limit_s
        self._certifier = certifier
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Solver":
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int | None:
        """Id of the solver's process; `None` before the first task."""
        workers = self._pool._processes if self._pool else None  # public only from Python 3.14 on
        return next(iter(workers or ()), None)

    async def plan(self, request: PlanRequest) -> Plan:
        """Solve. Raises SolverFailed when the solve fails or exceeds the limit."""
        plan: Plan = await self._work(self.limit_s, PLAN, request)
        return plan

    async def compare(self, request: PlanRequest, plan: Plan, candidate: Plan) -> Comparison:
        """Compare the plan in force with a candidate. Raises SolverFailed as `plan` does."""
        comparison: Comparison = await self._work(CERTIFY_S, COMPARE, request, plan, candidate)
        return comparison

    async def certify(self, plan: Plan, demand: Demand, pools: tuple[Pool, ...]) -> Plan:
        """Return the plan with its certificate. Raises SolverFailed as `plan` does."""
        if self._certifier is None:
            return plan
        with_certificate: Plan = await self._work(CERTIFY_S, self._certifier, plan, demand, pools)
        return with_certificate

    async def _work(self, limit_s: float, task: str, *arguments: object) -> Any:
        try:
            with without_hangup():
                if self._pool is None:
                    # spawn: a fork would copy the event loop's sockets and other threads' locks.
                    context = get_context("spawn")
                    self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=attach)
                    limit_s += START_S
                work = self._pool.submit(perform, task, *arguments)
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            self._stop()
            raise SolverFailed(f"no answer within {limit_s:g} s") from None
        except asyncio.CancelledError:  # nobody waits for it, and the next task should not have to
            self._stop()
            raise
        except BrokenProcessPool as error:
            self._stop()
            raise SolverFailed("the solver's process died") from error

    def _stop(self) -> None:
        """End the process at once, even in the middle of a solve."""
        if self._pool is None:
            return
        workers = list((self._pool._processes or {}).values())  # public only from Python 3.14 on
        for worker in workers:
            worker.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
