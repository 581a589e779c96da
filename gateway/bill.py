"""What the backends of a fleet cost that run now, awake and asleep. Reads the fleet; changes
nothing."""

from collections import Counter
from collections.abc import Mapping

from gateway.config.load import Loaded
from gateway.routing.fleet import Fleet
from planner.program.limits import backend_price, shared_groups
from planner.scaling.sleeping import fleet_usd


def running_bill(loaded: Loaded, fleet: Fleet) -> tuple[dict[str, float], float]:
    """$/h by pool, of all that run, those too that are drained or asleep; and $/h that those that
    sleep add to the others, which no plan has. Those that are reserved are paid for already."""
    running = {name: len(own) for name, own in fleet.membership.urls().items()}
    asleep = Counter(backend.pool for backend in fleet.backends if backend.asleep)
    awake = {name: count - asleep[name] for name, count in running.items()}
    whole = _costs(loaded, running, asleep)
    return whole, sum(whole.values()) - sum(_costs(loaded, awake, {}).values())


def _costs(
    loaded: Loaded, backends: Mapping[str, int], asleep: Mapping[str, int]
) -> dict[str, float]:
    """$/h by pool of these counts; a pool of which none sleeps may be absent from `asleep`."""
    costs = {}
    for pool in loaded.pools:
        usd, scale = backend_price(pool), loaded.config.pools[pool.name].scale
        asleep_usd = None if scale is None else scale.asleep_usd_per_hour
        costs[pool.name] = fleet_usd(
            backends[pool.name],
            asleep.get(pool.name, 0),
            usd_per_hour=usd,
            asleep_usd_per_hour=usd if asleep_usd is None else asleep_usd,
            reserved=pool.reserved,
        )
    for group in shared_groups(loaded.pools):
        own = [pool for pool in loaded.pools if pool.shared == group]
        awake = [p.gpus * (backends[p.name] - asleep.get(p.name, 0)) for p in own]
        for pool, held in zip(own, awake, strict=True):  # who is awake pays for all
            share = held / sum(awake) if any(awake) else 1 / len(own)
            costs[pool.name] = share * group.usd_per_hour
    return costs
