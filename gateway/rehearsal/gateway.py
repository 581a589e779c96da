"""The gateway of a rehearsal: its own routers and queues, asked by a simulator instead of by HTTP.

Knows no plan and no engine, nor NumPy: mypyc compiles it.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Final

from gateway.errors import Saturated, Unavailable
from gateway.rehearsal.estimates import Estimates
from gateway.rehearsal.load_sharing import LoadSharing
from gateway.routing.admission import Admission, QueueLimits
from gateway.routing.backend import Lease
from gateway.routing.observation import Outcome
from gateway.routing.prefix_trail import PrefixTrail
from gateway.routing.router import Router
from gateway.routing.ticket import Ticket
from planner.proof.timeline import Placed

TURN_S: Final = 0.2  # between two looks at the queue, if no token makes one necessary
SHED = Outcome.SHED.value


class SimulatedGateway:
    """The routers and queues of all workers, as the simulator asks them.

    bucket, decision: (N,) what was decided about each request. waited_s: (N,) seconds in the queue.
    """

    def __init__(
        self,
        routers: list[Router],
        limits: QueueLimits,
        estimates: Estimates,
        workers: list[int],
        sharing: LoadSharing | None = None,
        trail_of: Callable[[int], PrefixTrail | None] | None = None,
    ) -> None:
        """routers: one for each worker. limits: of the queue of each. workers: by request, number
        of the worker that it reaches. sharing: by which they know of each other, if time must pass
        for that. trail_of: makes the trail of a request; `None`: none has."""
        self._sharing = sharing
        self._routers = routers
        self._admissions = [
            Admission(router, limits, view=None if router.peers is None else router.peers.queue)
            for router in routers
        ]
        backends = routers[0].fleet.backends
        self._number = {backend.name: k for k, backend in enumerate(backends)}
        self._estimates = estimates
        self._workers = workers
        self._trail_of = trail_of
        self._settled: list[tuple[int, Ticket]] = []
        self._ends: list[float] = []  # a heap: until when those that wait may wait
        self._arrived_s: dict[int, float] = {}
        self._now_s = self._turned_s = 0.0
        self.bucket = [-1] * len(workers)
        self.decision = [SHED] * len(workers)
        self.waited_s = [0.0] * len(workers)

    @property
    def waiting(self) -> int:
        """Requests that wait for a backend."""
        return sum([admission.waiting for admission in self._admissions])

    def arrive(self, request: int, now_s: float) -> list[Placed]:
        """Place a request, or let it wait; it may take the place of another one."""
        self._now_s = now_s
        if self._sharing is not None:
            self._sharing.advance(now_s)
        worker, caller = self._workers[request], self._estimates.caller[request]
        router, admission = self._routers[worker], self._admissions[worker]
        estimate = self._estimates.estimate(request)
        if self._trail_of is not None:
            estimate.trail = self._trail_of(request)
        bucket = self.bucket[request] = router.bucket(estimate)
        try:
            lease = admission.enter(estimate, bucket=bucket, caller=caller, now_s=now_s)
            if lease is not None:
                return [self._placed(request, lease)]
            due_s, until_s = admission.due(estimate, bucket=bucket, arrival_s=now_s, again=False)
            ticket = Ticket(
                estimate=estimate,
                bucket=bucket,
                caller=caller,
                ready=lambda: self._settled.append((request, ticket)),
                due_s=due_s,
                until_s=until_s,
            )
            admission.wait(ticket, now_s)
        except (Saturated, Unavailable):
            return []
        self._arrived_s[request] = now_s
        heappush(self._ends, until_s)
        return self._leases(now_s)

    def room(self, now_s: float) -> Sequence[Placed]:
        """Let waiting requests take their turns, and end the time of those that waited too long."""
        self._now_s = self._turned_s = now_s
        if self._sharing is not None:
            self._sharing.advance(now_s)
        if not self._arrived_s:  # nobody waits, as at most tokens
            return ()
        for admission in self._admissions:
            if admission.waiting:
                admission.turn(now_s)
        return self._leases(now_s)

    def due_s(self) -> float:
        if not self._arrived_s or not any(admission.waiting for admission in self._admissions):
            return inf
        ends = self._ends
        while ends and ends[0] <= self._turned_s:
            heappop(ends)
        ends_s = ends[0] if ends else inf
        return max(self._now_s, min(ends_s, self._turned_s + TURN_S))

    def _leases(self, now_s: float) -> list[Placed]:
        settled, self._settled = self._settled, []
        placed = []
        for request, ticket in settled:
            self.waited_s[request] = now_s - self._arrived_s.pop(request)
            if ticket.lease is not None:
                placed.append(self._placed(request, ticket.lease))
        return placed

    def _placed(self, request: int, lease: Lease) -> Placed:
        self.decision[request] = lease.decision
        return request, self._number[lease.backend.name], lease
