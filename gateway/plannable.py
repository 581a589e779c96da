"""What a plan may count with: the pools of a configuration, and how many backends. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.config.load import Loaded
from planner.model.pool import Pool


def usable(pools: Sequence[Pool], ready: Sequence[int], running: Sequence[int]) -> tuple[int, ...]:
    """(P,) backends to plan with: those that are ready; but all of a model of which none is, since
    there is nothing else to plan with."""
    served = {pool.model for pool, count in zip(pools, ready, strict=True) if count}
    return tuple(
        up if pool.model in served else known
        for pool, up, known in zip(pools, ready, running, strict=True)
    )


def bounded(loaded: Loaded, running: Sequence[int]) -> tuple[Pool, ...]:
    """The pools with as many backends as run, where the configuration does not bound them, or
    bounds what may be started."""
    sections = loaded.config.pools
    return tuple(
        replace(pool, max_backends=max(pool.min_backends, count))
        if sections[pool.name].max_backends is None or sections[pool.name].scale is not None
        else pool
        for pool, count in zip(loaded.pools, running, strict=True)
    )


def depends_on(loaded: Loaded) -> tuple[object, ...]:
    """What a plan is made from, beside the demand and the fleet."""
    return loaded.pools, loaded.buckets, loaded.limits, loaded.config.planner.objective
