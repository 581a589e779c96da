"""Makes the planner's pools of the configured ones: profiles, prices, bounds.

Knows no backend and no promise.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.config.alternatives import UnusableAlternative, alternative_pools
from gateway.config.findings import Findings, did_you_mean
from gateway.config.pool_schema import PoolSection
from gateway.config.schema import Config
from planner import shipped
from planner.costs import prices
from planner.document import shown, under
from planner.engine import profiles
from planner.engine.profiles import Profile
from planner.errors import InvalidValue, PlannerError
from planner.model.pool import Pool, SharedGpus, Spot

# Of its price, what an engine on shared GPUs costs a plan: the GPUs are paid for in any case, so it
# is only to decide between fleets that serve the same.
TIE = 1e-4


class Pools:
    """The pools of one configuration, while they are made."""

    def __init__(self, config: Config, root: Path, findings: Findings) -> None:
        """root: the folder that paths are relative to."""
        self._config = config
        self._root = root
        self._findings = findings
        self._usd_per_gpu = self._prices()
        self._first_shared: dict[str, str] = {}  # GPU type by name of shared GPUs

    def __repr__(self) -> str:
        return f"<Pools {', '.join(self._config.pools)}>"

    def made(self) -> tuple[Pool, ...]:
        """The pools that can be made, in the order of the file; findings hear of the others."""
        found = {name: self._pool(name, section) for name, section in self._config.pools.items()}
        pools = tuple(pool for pool in found.values() if pool is not None)
        self._check_kinds(pools)
        for name in self._config.limits.shared_gpus.keys() - self._first_shared.keys():
            text = "no pool has it: its price is in no plan"
            self._findings.warning(under("limits.shared_gpus", name), text)
        return pools

    def alternatives(self, pools: tuple[Pool, ...]) -> Iterator[Pool | UnusableAlternative]:
        """What could be rented beside these pools, or why not."""
        sections, usd = self._config.pools, self._listed_usd
        for pool in pools:
            found = alternative_pools(sections[pool.name], pool, self._root, usd, self._findings)
            for one in found:
                if one.name in sections:
                    key = under("pools", one.name)
                    self._findings.problem(key, f"an alternative of {pool.name} has this name")
                yield one

    def _prices(self) -> dict[str, float] | None:
        """$/h by name of the GPU; `None` if the price list cannot be read."""
        value = self._config.prices
        try:
            path = None if value is None else shipped.located(value, self._root, "prices")
            return {} if path is None else dict(prices.read_prices(path))
        except PlannerError as error:
            self._findings.problem("prices", str(error))
            return None

    def _pool(self, name: str, section: PoolSection) -> Pool | None:
        where = under("pools", name)
        if self._findings.hides(f"{where}.profile"):
            return None
        profile = self._profile(section.profile, where)
        if profile is None:
            return None
        usd = self._usd(section, profile, where)
        self._check_sense(section, where)
        self._check_sleep(section, usd, where)
        shared = self._shared(section, profile, where)
        most = section.max_backends
        bounded = section.discover is None and (section.backends or section.any_of is None)
        if most is None and bounded:
            most = len(section.backends)
        try:
            pool = Pool(
                name=name,
                model=section.model,
                profile=profile,
                usd_per_hour=(usd or 0.0) * (1.0 if shared is None else TIE),
                shared=shared,
                min_backends=section.min_backends,
                max_backends=most,
                reserved=section.reserved,
                zone=section.zone,
                spot=None if section.spot is None else Spot(**msgspec.structs.asdict(section.spot)),
            )
        except InvalidValue as error:
            self._findings.invalid(where, str(error).removeprefix(f"pool {name}: "))
            return None
        return None if usd is None else pool

    def _profile(self, value: str, where: str) -> Profile | None:
        try:
            return profiles.find_profile(value, self._root)
        except PlannerError as error:
            self._findings.problem(f"{where}.profile", str(error))
            return None

    def _usd(self, section: PoolSection, profile: Profile, where: str) -> float | None:
        """$/h of one backend: the pool's own, by the price list, or by the profile's own GPU;
        `None` if there is none."""
        if section.usd_per_hour is not None or self._usd_per_gpu is None:
            return section.usd_per_hour
        usd = self._listed_usd(profile)
        if usd is None:
            text = f"missing, and prices has none for {profile.gpu}"
            self._findings.problem(f"{where}.usd_per_hour", text)
        return usd

    def _listed_usd(self, profile: Profile) -> float | None:
        """$/h of one backend by the price list, or by the profile's own GPU; `None` if neither has
        one."""
        usd = (self._usd_per_gpu or {}).get(profile.gpu, profile.usd_per_gpu_hour)
        return None if usd is None else usd * profile.gpus

    def _check_sense(self, section: PoolSection, where: str) -> None:
        """Warn of what offline planning needs, and a gateway hardly."""
        listed, most = len(section.backends), section.max_backends
        if section.discover is not None:
            pass  # how many there will be is not known
        elif not listed and section.any_of is None:
            self._findings.warning(f"{where}.backends", "none: the gateway cannot use this pool")
        elif most is not None and most > listed and section.any_of is None:
            text = f"{most}, and `backends` has {listed}: the gateway plans with {most}"
            self._findings.warning(f"{where}.max_backends", text)
        if section.usd_per_hour == 0:
            text = "0: a plan takes as many as there are; for what is paid for there is `reserved`"
            self._findings.warning(f"{where}.usd_per_hour", text)

    def _shared(self, section: PoolSection, profile: Profile, where: str) -> SharedGpus | None:
        """The GPUs that a pool shares; `None` if it shares none, or what is wrong was told."""
        name = section.shared_gpus
        if name is None:
            return None
        groups, key = self._config.limits.shared_gpus, f"{where}.shared_gpus"
        if name not in groups:
            text = f"limits.shared_gpus has no {shown(name)}{did_you_mean(name, groups)}"
            self._findings.problem(key, text)
            return None
        other = self._first_shared.setdefault(name, profile.gpu)
        if other != profile.gpu:
            text = f"{profile.gpu}, and another pool of {shown(name)} has {other}"
            self._findings.problem(key, text)
        if section.any_of is not None:
            self._findings.problem(key, "a pool that shares GPUs has no alternatives: no `any_of`")
        if section.scale is None:
            text = "without `scale` the gateway wakes none and puts none to sleep"
            self._findings.warning(key, text)
        group = groups[name]
        if profile.gpus > group.gpus:
            text = f"one backend takes {profile.gpus} GPUs, and there are {group.gpus}"
            self._findings.problem(key, text)
        return SharedGpus(name=name, gpus=group.gpus, usd_per_hour=group.usd_per_hour)

    def _check_sleep(self, section: PoolSection, usd: float | None, where: str) -> None:
        """Warn of sleep that saves nothing."""
        scale = section.scale
        if scale is None or not scale.asleep or usd is None or section.shared_gpus is not None:
            return
        asleep_usd = scale.asleep_usd_per_hour
        if asleep_usd is None or asleep_usd >= usd:
            price = "the pool's price" if asleep_usd is None else f"${asleep_usd:g}"
            text = f"{price}, as awake: {scale.asleep} may sleep, and none is put to sleep"
            self._findings.warning(f"{where}.scale.asleep_usd_per_hour", text)

    def _check_kinds(self, pools: tuple[Pool, ...]) -> None:
        """Warn of profiles of several models under one name."""
        first: dict[str, Pool] = {}
        for pool in pools:
            other = first.setdefault(pool.model, pool)
            if pool.profile.model.casefold() != other.profile.model.casefold():
                text = (
                    f"it is of {pool.profile.model}, that of {other.name} of "
                    f"{other.profile.model}, and both pools serve {pool.model}"
                )
                self._findings.warning(f"{under('pools', pool.name)}.profile", text)
