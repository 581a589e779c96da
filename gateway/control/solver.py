"""Solving beside the event loop: one worker process, restarted when a solve takes too long.

A thread would share the interpreter lock with the data path; a process does not. Knows nothing of
when to plan or what becomes of a plan.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from types import TracebackType
from typing import Literal

from planner import solve
from planner.errors import SolverFailed
from planner.explain import explained
from planner.limits import UNLIMITED, Limits
from planner.model import Demand, Plan, Pool

Certifier = Callable[[Plan, Demand, tuple[Pool, ...]], Plan]  # importable: it runs in the worker

CERTIFY_S = 60.0  # the longest that a certificate may take
START_S = 60.0  # a new worker's first solve also pays for its start: imports, on a busy machine

Objective = Literal["provision", "assign"]


def plan(
    objective: Objective,
    demand: Demand,
    pools: tuple[Pool, ...],
    running: tuple[int, ...],
    limits: Limits = UNLIMITED,
) -> Plan:
    """Solves in the calling process. running: (P,) backends now, which `assign` takes as given."""
    if objective == "provision":
        found = solve.provision(demand, pools, limits)
    else:
        found = solve.assign(demand, pools, running)
    return explained(found, demand, pools)


def _attach() -> None:
    """In the worker: signals to the whole process group are not for it, and it never outlives the
    process that it solves for, however that one ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Solver:
    """A context manager around the worker process."""

    def __init__(self, *, limit_s: float, certifier: Certifier | None = None) -> None:
        """certifier: puts a certificate on a plan; `None`: plans go without."""
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
        return await self._work(self._limit_s, plan, objective, demand, pools, running, limits)

    async def certify(self, found: Plan, demand: Demand, pools: tuple[Pool, ...]) -> Plan:
        """The plan with its certificate. Raises SolverFailed as `plan` does."""
        if self._certifier is None:
            return found
        return await self._work(CERTIFY_S, self._certifier, found, demand, pools)

    async def _work(self, limit_s: float, task: Callable[..., Plan], *arguments: object) -> Plan:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, mp_context=get_context("spawn"), initializer=_attach
            )
            limit_s += START_S
        try:
            work = self._pool.submit(task, *arguments)
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            self._stop()
            raise SolverFailed(f"no plan within {limit_s:g} s") from None
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
