"""Makes the planner's pools of what could be rented beside a configured pool: its `any_of`.

Each alternative is a pool, or has a reason why it is none, which `cuvee check` shows. Knows no
backend and no promise.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import msgspec

from gateway.config.findings import Findings
from gateway.config.pool_schema import AnyOfSection, PoolSection
from planner import shipped
from planner.document import under
from planner.engine import catalogue, profiles
from planner.engine.alternatives import Choices, Combination, alternatives, setup
from planner.engine.profiles import Profile
from planner.errors import PlannerError
from planner.model.pool import Pool

MOST = 500  # alternatives of one pool: a list of all their combinations grows fast


class UnusableAlternative(msgspec.Struct, frozen=True, kw_only=True):
    """An alternative that no plan can use. name: that its pool would have had; reason: in words."""

    name: str
    reason: str


def alternative_pools(
    section: PoolSection,
    pool: Pool,
    root: Path,
    usd: Callable[[Profile], float | None],
    findings: Findings,
) -> Iterator[Pool | UnusableAlternative]:
    """What the `any_of` of a pool adds, in the order of the file; profiles of its own first.

    usd: $/h of a backend by the price list; `None` if it has no price. On the pool's own GPU type
    it is the pool's price, by GPU. Findings hear of values that are mistakes in themselves; a
    combination with which an engine would not start is none.
    """
    where = under("pools", pool.name) + ".any_of"
    if section.any_of is None or findings.hides(where) or _mistaken(section, where, findings):
        return
    names: set[str] = set()
    for one in _listed(section, section.any_of, pool, where, root, findings):
        name = f"{pool.name}/{one.label}"
        if name in names:
            findings.problem(where, f"two alternatives have the name {name}")
        names.add(name)
        if one.profile is None:
            yield UnusableAlternative(name=name, reason=one.reason or "")
            continue
        price = usd(one.profile)
        if one.profile.gpu == pool.gpu:
            price = pool.usd_per_hour / pool.gpus * one.profile.gpus
        if price is None:
            yield UnusableAlternative(name=name, reason=f"prices has none for {one.profile.gpu}")
            continue
        yield Pool(
            name=name,
            model=pool.model,
            profile=one.profile,
            usd_per_hour=price,
            max_backends=section.max_backends,
            zone=pool.zone,
        )


def _mistaken(section: PoolSection, where: str, findings: Findings) -> bool:
    """Note what makes no list of alternatives; returns whether there was such a mistake."""
    any_of = section.any_of
    assert any_of is not None
    combinations = 1
    for key in _keys():
        combinations *= max(1, len(getattr(any_of, key)))
    unknown = [i for i, gpu in enumerate(any_of.gpu) if not shipped.lookup(gpu, catalogue.gpus())]
    for index in unknown:
        text = shipped.unknown(any_of.gpu[index], catalogue.gpus())
        findings.problem(f"{where}.gpu[{index}]", text)
    if section.spot is not None:
        findings.problem(where, "is not for spot pools: `spot` has the terms of one GPU type")
    if combinations > MOST:
        findings.problem(where, f"{combinations} combinations, at most {MOST}")
    return bool(unknown) or section.spot is not None or combinations > MOST


def _listed(
    section: PoolSection,
    any_of: AnyOfSection,
    pool: Pool,
    where: str,
    root: Path,
    findings: Findings,
) -> Iterator[Combination]:
    """Every alternative once: the listed profiles, then the combinations that none of them is."""
    taken = {setup(pool.profile)}
    for index, value in enumerate(any_of.profile):
        key = f"{where}.profile[{index}]"
        try:
            profile = profiles.find_profile(value, root)
        except PlannerError as error:
            findings.problem(key, str(error))
            continue
        if profile.model.casefold() != pool.profile.model.casefold():
            text = f"it is of {profile.model}, that of {pool.name} of {pool.profile.model}"
            findings.problem(key, text)
        taken.add(setup(profile))
        yield Combination(label=_name(value), profile=profile)
    choices = Choices(**{key: getattr(any_of, key) for key in _keys()})
    if choices != Choices():
        base, folder = profiles.find_file(section.profile, root)
        yield from alternatives(base, choices, folder, taken)


def _name(value: str) -> str:
    """The last part of a built-in name or of a path, without its ending."""
    name = Path(value).name
    return Path(name).stem if name.lower().endswith(shipped.ENDINGS) else name


def _keys() -> list[str]:
    return [field.name for field in fields(Choices)]
