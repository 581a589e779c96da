"""Solving beside the event loop: one worker process, restarted when a solve takes too long.

A thread would share the interpreter lock with the data path; a process does not. Tasks go by name,
so that only that process imports the solver. Knows nothing of when to plan or what becomes of one.
"""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Any

from gateway.control.solver.child import attach, perform
from gateway.control.solver.compare import Comparison, Objective
from planner.errors import SolverFailed
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.limits import UNLIMITED, Limits

PLAN = "gateway.control.solver.tasks:plan"
COMPARE = "gateway.control.solver.compare:compare"

CERTIFY_S = 60.0  # the longest that a certificate may take, or anything else but a solve
START_S = 60.0  # a new worker's first solve also pays for its start: imports, on a busy machine


class Solver:
    """A context manager around the worker process."""

    def __init__(self, *, limit_s: float, certifier: str | None = None) -> None:
        """certifier: `module:function` that takes a plan, its demand and the pools, and gives the
        plan with a certificate; `None`: plans go without."""
        self._limit_s = limit_s
        self._certifier = certifier
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Solver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    async def plan(
        self,
        objective: Objective,
        demand: Demand,
        pools: tuple[Pool, ...],
        running: tuple[int, ...],
        limits: Limits = UNLIMITED,
    ) -> Plan:
        """Solves in the worker. Raises SolverFailed when it fails or exceeds the limit."""
        found: Plan = await self._work(
            self._limit_s, PLAN, objective, demand, pools, running, limits
        )
        return found

    async def compare(
        self,
        objective: Objective,
        demand: Demand,
        pools: tuple[Pool, ...],
        plan: Plan,
        candidate: Plan,
    ) -> Comparison:
        """What the candidate would be worth in place of the plan. Raises as `plan` does."""
        verdict: Comparison = await self._work(
            CERTIFY_S, COMPARE, objective, demand, pools, plan, candidate
        )
        return verdict

    async def certify(self, found: Plan, demand: Demand, pools: tuple[Pool, ...]) -> Plan:
        """The plan with its certificate. Raises SolverFailed as `plan` does."""
        if self._certifier is None:
            return found
        with_certificate: Plan = await self._work(CERTIFY_S, self._certifier, found, demand, pools)
        return with_certificate

    async def _work(self, limit_s: float, task: str, *arguments: object) -> Any:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=attach)
            limit_s += START_S
        try:
            work = self._pool.submit(perform, task, *arguments)
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            self._stop()
            raise SolverFailed(f"no answer within {limit_s:g} s") from None
        except BrokenProcessPool as error:
            self._stop()
            raise SolverFailed("the solver's process died") from error

    def _stop(self) -> None:
        """Ends the worker at once, in the middle of a solve if need be."""
        if self._pool is None:
            return
        workers = list((self._pool._processes or {}).values())  # public only from Python 3.14 on
        for worker in workers:
            worker.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
