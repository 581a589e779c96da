"""Which of the backends that are wished are to be awake, where some may sleep.

Two horizons, one policy: `Sufficiency` says what is needed until a waking would be over, a policy
of its own holds that against noise, and `planner.scaling.sleeping` divides. Orders nothing.
"""

from collections.abc import Callable, Mapping

from gateway.actuation.aims import clamped
from gateway.actuation.ordering import Ordering
from gateway.actuation.sufficiency import Requirement
from gateway.config.load import Loaded
from planner.model.pool import Pool
from planner.program.limits import shared_groups
from planner.scaling.faces import CountPolicy
from planner.scaling.sleeping import Division, SleepTerms, divided, fleet_usd, within_shared


class SleepColumn:
    """The division of all pools, over time."""

    def __init__(self, ordering: Ordering, policy: Callable[[Loaded], CountPolicy]) -> None:
        """policy: makes one for a configuration."""
        self._ordering, self._new_policy = ordering, policy
        self._policy: CountPolicy | None = None

    def __repr__(self) -> str:
        return f"<SleepColumn of {self._ordering!r}>"

    def reset(self) -> None:
        """The pools, or the settings of the policy, are others."""
        self._policy = None

    def divide(
        self,
        loaded: Loaded,
        soon: Requirement | None,
        have: Mapping[str, int],
        *,
        unix_s: float,
        now_s: float,
        may_rest: bool,
    ) -> None:
        """Divide what is wished of each pool; the wish is then what has to be awake. soon: until a
        waking would be over; `None`: none is to sleep. have: backends by pool, awake, asleep and
        ordered. may_rest: whether any may be put to sleep now. now_s: on the event loop's clock."""
        counts = {} if soon is None else self._awake(loaded, soon, unix_s, may_rest)
        for pool in loaded.pools:
            own = self._ordering.pools.get(pool.name)
            if own is None:
                continue
            own.aim.division, terms = None, own.sleep_terms(pool)
            if soon is None or not terms.most_asleep or own.aim.wish is None:
                continue
            there = self._ordering.present(pool.name)
            up = there.serving + there.waking
            total = own.aim.wish if pool.shared is None else have[pool.name]
            awake = clamped(
                counts[pool.name],
                needed=soon.enough(pool.name),
                coming=up,
                least=min(own.least, total) if pool.shared is None else 0,
                most=total,
                may_stop=may_rest,
            )
            wanted = divided(total, awake, terms.most_asleep)
            own.aim.division = own.rent.keep(now_s, wanted, have[pool.name], terms)
            own.aim.wish = own.aim.division.up(there.asleep)
            own.aim.why += f"; {_priced(own.aim.division, terms, pool)}"

    def _awake(
        self, loaded: Loaded, soon: Requirement, unix_s: float, may_rest: bool
    ) -> dict[str, int]:
        """By pool, what a policy over time makes of what is needed; where GPUs are shared, as far
        as it fits on them."""
        if self._policy is None:
            self._policy = self._new_policy(loaded)
        present = {pool.name: self._ordering.present(pool.name) for pool in loaded.pools}
        serving = [one.serving for one in present.values()]
        waking = [one.waking for one in present.values()]
        up = {name: one.serving + one.waking for name, one in present.items()}
        wanted = [soon.needed[n] if n in self._ordering.pools else up[n] for n in up]
        counts = self._policy.decide(
            unix_s, wanted, serving, waking, holds=soon.holding, more=soon.beside(up)
        )
        awake = dict(zip(up, counts, strict=True))
        for group in shared_groups(loaded.pools) if may_rest else ():
            gpus = {p.name: p.gpus for p in loaded.pools if p.shared == group}
            # Who is awake stays so until another needs the GPU: its sleep saves nothing else.
            kept = {name: max(awake[name], up[name]) for name in gpus}
            awake |= within_shared(kept, soon.needed, gpus, group.gpus)
        return awake


def _priced(division: Division, terms: SleepTerms, pool: Pool) -> str:
    if pool.shared is not None:
        return f"{division.awake} awake and {division.asleep} asleep on {pool.shared}"
    usd = fleet_usd(
        division.total,
        division.asleep,
        usd_per_hour=terms.usd_per_hour,
        asleep_usd_per_hour=terms.asleep_usd_per_hour,
    )
    return f"{division.awake} awake and {division.asleep} asleep, ${usd:.2f}/h"
