"""Whether a configuration says what is true: prices, profiles, promises, backends.

Asks no engine.
"""

import datetime
from collections.abc import Iterator

import numpy as np

from gateway.config.load import Loaded
from gateway.inspection.examined import CheckGroup, Examined
from planner import shipped
from planner.costs import prices
from planner.engine import catalogue, naming
from planner.model.buckets import SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import bucket_loads

GROUP = CheckGroup("configuration", "docs/configuration.md")
OLD_DAYS = 180  # of a price: clouds change theirs about once a year
LARGE_ERROR = 0.25  # of a profile, over what was measured
UNPROMISED = 0.5  # share of the sizes that no pool promises


def of_problems(problems: tuple[str, ...]) -> Iterator[Examined]:
    """A file that cannot be used: each of its mistakes."""
    for problem in problems:
        yield GROUP.error("file", problem, "`cuvee check` tells the same; correct the file")


def of_configuration(loaded: Loaded, today: datetime.date) -> Iterator[Examined]:
    """What is to be known of a file that can be used."""
    config = loaded.config
    yield GROUP.fine("file", f"{len(config.models)} models, {len(config.pools)} pools, no mistakes")
    for warning in loaded.warnings:
        yield GROUP.warning("file", warning, "change the key, or accept what it says")
    yield from _prices(loaded, today)
    yield from _profiles(loaded)
    yield from _weights(loaded)
    yield from _promises(loaded)
    yield from _backends(loaded)


def of_duplicates(addresses: dict[str, frozenset[str]]) -> Iterator[Examined]:
    """Whether two URLs of the file lead to one engine. addresses: IP addresses with ports by URL,
    as far as names could be resolved."""
    first: dict[str, str] = {}
    found = False
    for url, own in addresses.items():
        for address in sorted(own):
            other = first.setdefault(address, url)
            if other != url and not found:
                found = True
                yield GROUP.warning(
                    "duplicates", f"{other} and {url} are both {address}: plans count it twice",
                    "list each engine once; a name with several addresses is `discover.dns`",
                    "docs/discovery.md#dns",
                )  # fmt: skip
    if not found:
        yield GROUP.fine("duplicates", f"{len(addresses)} URLs lead to different engines")


def _prices(loaded: Loaded, today: datetime.date) -> Iterator[Examined]:
    """The age of the prices that are used, of the oldest."""
    value = loaded.config.prices
    if value is None:
        return
    listed = prices.read_list(shipped.located(value, loaded.root, "prices"))
    own = {name for name, pool in loaded.config.pools.items() if pool.usd_per_hour is None}
    gpus = {pool.profile.gpu for pool in loaded.pools if pool.name in own}
    dates = [price.date for gpu, price in listed.items() if gpu in gpus]
    if not dates:
        return
    oldest = min(dates)
    days = (today - oldest).days
    if days > OLD_DAYS:
        yield GROUP.warning(
            "prices", f"{value} is of {oldest}, {days} days ago",
            "a price moves a plan as much as a profile does: put your own into `prices`",
            "docs/profiles.md#prices",
        )  # fmt: skip
    else:
        yield GROUP.fine("prices", f"{value} is of {oldest}")


def _profiles(loaded: Loaded) -> Iterator[Examined]:
    """Where profiles come from."""
    analytic = [pool.name for pool in loaded.pools if pool.profile.origin == "analytic"]
    poor = [pool for pool in loaded.pools if pool.profile.error > LARGE_ERROR]
    hint = "`cuvee profile measure --url URL --gpu GPU --out FILE` measures an engine in an hour"
    anchor = "docs/profiles.md#measuring-a-running-backend"
    for pool in poor:
        text = f"{pool.name}: its profile is off by {pool.profile.error:.0%} on what was measured"
        yield GROUP.warning("profiles", text, hint, anchor)
    if analytic:
        text = f"{', '.join(analytic)}: from a formula, not measured on your engines"
        yield GROUP.note("profiles", text, hint, anchor)
    elif not poor:
        yield GROUP.fine("profiles", "all of them were measured")


def _weights(loaded: Loaded) -> Iterator[Examined]:
    """Whether the profiles of one model's pools are of the same weights, and of those that the
    model's name says."""
    faults = 0
    for model in loaded.config.models:
        pools = [pool for pool in loaded.pools if pool.model == model]
        kinds = dict.fromkeys(pool.profile.model for pool in pools)
        if len(kinds) > 1:
            faults += 1
            each = ", ".join(f"{pool.name} of {pool.profile.model}" for pool in pools)
            yield GROUP.warning(
                "profile's model", f"pools of {model} have profiles of different models: {each}",
                "a profile must be of the weights that the engines have", "docs/profiles.md#names",
            )  # fmt: skip
            continue
        meant = naming.model_of(model, catalogue.models())
        other = next((kind for kind in kinds if kind in catalogue.models() and kind != meant), None)
        if meant is not None and other is not None:
            faults += 1
            yield GROUP.warning(
                "profile's model", f"{model} seems to be {meant}, and its profiles are of {other}",
                "a profile must be of the weights that the engines have", "docs/profiles.md#names",
            )  # fmt: skip
    if not faults:
        yield GROUP.fine("profile's model", "each model's pools have profiles of the same weights")


def _promises(loaded: Loaded) -> Iterator[Examined]:
    """For which share of the sizes some pool holds each promise."""
    grid, classes = loaded.buckets.grid, loaded.buckets.classes
    misfit = bucket_loads(Demand.none(loaded.buckets), loaded.pools).misfit
    cells = misfit.reshape(len(classes), grid.cells, len(loaded.pools))
    for slo_class, by_pool in zip(classes, cells, strict=True):
        own = [p for p, pool in enumerate(loaded.pools) if pool.model == slo_class.model]
        fits = np.array([_fits(loaded.pools, own, grid.centre(c)) for c in range(grid.cells)])
        held = (by_pool[:, own] < 1).any(axis=1) & fits
        share = float(held.sum() / fits.sum()) if fits.any() else 0.0
        if share < UNPROMISED:
            yield GROUP.warning(
                "promises", f"{_words(slo_class)}: a pool can keep it for {share:.0%} of the sizes",
                "a longer ttft_s or tpot_s, faster GPUs, or smaller `buckets`",
                "docs/planning.md#what-is-cheapest",
            )  # fmt: skip
        else:
            yield GROUP.fine("promises", f"{_words(slo_class)}: kept for {share:.0%} of the sizes")


def _fits(pools: tuple[Pool, ...], own: list[int], size: tuple[float, float]) -> bool:
    """Whether a size fits into the context of a pool."""
    return any(sum(size) <= pools[p].profile.max_model_len for p in own)


def _words(slo_class: SloClass) -> str:
    slo = slo_class.slo
    return f"{slo_class}, TTFT {slo.ttft_s:g} s and TPOT {slo.tpot_s * 1e3:g} ms"


def _backends(loaded: Loaded) -> Iterator[Examined]:
    """Whether every model has backends, and more than one."""
    for model in loaded.config.models:
        pools = [pool for pool in loaded.config.pools.values() if pool.model == model]
        count = sum(len(pool.backends) for pool in pools)
        if any(pool.discover is not None or pool.scale is not None for pool in pools):
            yield GROUP.fine("backends", f"{model}: {count}, and those that are found")
        elif count == 0:
            yield GROUP.error(
                "backends", f"{model}: no pool has a backend", "`backends` or `discover` of a pool",
                "docs/discovery.md",
            )  # fmt: skip
        elif count == 1:
            yield GROUP.note(
                "backends", f"{model}: a single one: when it fails, nobody serves",
                "a second engine, or `scale`", "docs/reliability.md#backends-that-fail",
            )  # fmt: skip
        else:
            yield GROUP.fine("backends", f"{model}: {count}")
