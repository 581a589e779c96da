"""A copy of a fleet at one moment, on which the real router can decide without anything happening.

What is reserved on the copy is reserved nowhere else. Pure: time is an argument.
"""

from collections.abc import Collection

from gateway.routing.backend import COLD, Backend
from gateway.routing.fleet import Fleet

MOMENT_S = 1.0  # a copy is used at once; what is full then stays so


def copied(fleet: Fleet, now_s: float, resting: Collection[str] = ()) -> Fleet:
    """The same backends in the same state. resting: names of backends to which no worker sends
    requests now, which this process may not know from its own."""
    made = Fleet(fleet.membership)
    own = {backend.name: backend for backend in made.backends}
    for backend in fleet.backends:
        _take(own[backend.name], backend, now_s, backend.name in resting)
    return made


def _take(copy: Backend, backend: Backend, now_s: float, resting: bool) -> None:
    copy.in_flight, copy.pending_s, copy.memory = (
        backend.in_flight, backend.pending_s, backend.memory,
    )  # fmt: skip
    copy.loads, copy.present = list(backend.loads), list(backend.present)
    copy.healthy, copy.asleep, copy.leaving = backend.healthy, backend.asleep, backend.leaving
    copy.foreign, copy.heard_s = backend.foreign, backend.heard_s
    copy.silent = backend.silent or resting or not backend.breaker.allows(now_s)
    copy.breaker.failures = backend.breaker.failures
    copy.paused_until_s = backend.paused_until_s
    if backend.full(now_s) or backend.behind(now_s):
        copy.paused_until_s = max(copy.paused_until_s, now_s + MOMENT_S)
    cold, left_s = backend.cold(now_s), backend.cold_until_s - now_s
    if cold > 0.0:
        warmup_s = COLD * left_s / cold
        copy.warm_up(now_s + left_s - warmup_s, warmup_s)
