"""On which GPUs the engines live that share them, and which sleepers have theirs for themselves.

Nothing tells where an engine is but its address: engines of one host are taken to be in the order
of their ports, the first of each pool on the first GPU of the host, and so on. Pure.
"""

from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

from gateway.routing.backend import Backend

Place = tuple[str, int]  # host, and number of the GPU there


def places(backends: Sequence[Backend], gpus: Mapping[str, int]) -> dict[str, frozenset[Place]]:
    """The GPUs of each backend, by its name. gpus: that one backend takes, by pool."""
    found: dict[str, frozenset[Place]] = {}
    taken: dict[tuple[str, str], int] = {}  # by pool and host
    for backend in sorted(backends, key=lambda one: (one.pool, *_address(one))):
        host, number = _address(backend)[0], gpus[backend.pool]
        first = taken.get((backend.pool, host), 0)
        found[backend.name] = frozenset((host, k) for k in range(first, first + number))
        taken[backend.pool, host] = first + number
    return found


def alone(
    backends: Sequence[Backend], gpus: Mapping[str, int], waking: Collection[str]
) -> set[str]:
    """Names of sleepers on whose GPUs no other backend is awake. waking: names of those that were
    told to wake up."""
    where = places(backends, gpus)
    up = [where[b.name] for b in backends if not b.asleep or b.name in waking]
    held = frozenset[Place]().union(*up)
    return {b.name for b in backends if b.asleep and not where[b.name] & held} - set(waking)


def _address(backend: Backend) -> tuple[str, int, str]:
    parts = urlsplit(backend.url)
    return parts.hostname or "", parts.port or 0, backend.url
