"""Reads the configuration file and makes the planner's values of it. Knows no live object.

Every problem is reported, one line each, with the path of its key. Paths in the file are relative
to the file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.config.convert import convert, domain_problems
from gateway.config.schema import BucketSection, Config, LimitsSection, PoolSection, SloSection
from gateway.errors import ConfigError
from planner import files, shipped
from planner.costs import prices
from planner.engine import profiles
from planner.engine.profiles import Profile
from planner.errors import InvalidFile, InvalidValue, PlannerError
from planner.model.buckets import DEFAULT, Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool, Spot
from planner.program.headroom import bucket_loads
from planner.program.limits import Limits, Stock
from planner.sizes import Grid, log_edges
from planner.slo import Slo


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A checked configuration, and the planner's values made of it.

    pools: with profiles and prices, in the order of the file. limits: of provisioned plans.
    workload: path of a trace, or `None`.
    """

    config: Config
    pools: tuple[Pool, ...]
    buckets: Buckets
    workload: Path | None
    limits: Limits = Limits()


def load(path: Path) -> Loaded:
    """Read and check a configuration file. Raises ConfigError with one line for each problem."""
    problems: list[str] = []
    config = convert(_yaml(path), Config, problems)
    if config is None:
        raise ConfigError(tuple(problems))
    problems += domain_problems(config, "")
    classes = _classes(config, problems)
    pools = _pools(config, path.parent, problems)
    grid = _grid(config.buckets, problems)
    workload = path.parent / config.planner.workload if config.planner.workload else None
    body, buffer = config.gateway.max_body_bytes, config.gateway.buffer_bytes
    if buffer is not None and buffer < body:
        problems.append(f"gateway.buffer_bytes: must be ≥ max_body_bytes: {buffer} < {body}")
    if workload is not None and not workload.is_file():
        problems.append(f"planner.workload: no such file: {workload}")
    if problems or grid is None:
        raise ConfigError(tuple(problems))
    buckets = Buckets(classes=classes, grid=grid)
    problems += _unusable(buckets, pools)
    limits = _limits(config.limits, pools, problems)
    if problems:
        raise ConfigError(tuple(problems))
    return Loaded(config=config, pools=pools, buckets=buckets, workload=workload, limits=limits)


def _yaml(path: Path) -> dict[str, Any]:
    """The top-level mapping of a YAML file. Raises ConfigError, with the line of a syntax error, or
    both lines of a key that stands twice in a mapping."""
    try:
        raw = files.loaded(path)
    except InvalidFile as error:
        raise ConfigError(tuple(str(error).splitlines())) from error
    if not isinstance(raw, dict):
        raise ConfigError((f"{path}: must be a mapping with `models` and `pools`",))
    return raw


def _classes(config: Config, problems: list[str]) -> tuple[SloClass, ...]:
    """The SLO classes of all models, each model's default class first."""
    classes = []
    for model, title, section, where in _slo_sections(config):
        if not _fits_a_header(title):
            problems.append(f"{where}: the name must be printable ASCII: it travels in a header")
        elif title == DEFAULT and where != f"models.{model}.slo":
            problems.append(f"{where}: the class `{DEFAULT}` is models.{model}.slo")
        try:
            slo = Slo(**{key: getattr(section, key) for key in SloSection.__struct_fields__})
            classes.append(SloClass(model=model, slo=slo, name=title))
        except InvalidValue as error:
            problems.append(_at(where, str(error)))
    return tuple(classes)


def _slo_sections(config: Config) -> Iterator[tuple[str, str, SloSection, str]]:
    """Every SLO class as its model, its name, its section and the path of the section."""
    for model, section in config.models.items():
        yield model, DEFAULT, section.slo, f"models.{model}.slo"
        for title, slo in section.classes.items():
            yield model, title, slo, f"models.{model}.classes.{title}"


def _pools(config: Config, root: Path, problems: list[str]) -> tuple[Pool, ...]:
    """The pools that could be made; problems tell of the others."""
    usd_per_gpu: dict[str, float] | None = {}
    if config.prices is not None:
        try:
            usd_per_gpu = dict(prices.read_prices(shipped.located(config.prices, root, "prices")))
        except PlannerError as error:
            problems.append(f"prices: {error}")
            usd_per_gpu = None
    pools = (_pool(n, s, config, root, usd_per_gpu, problems) for n, s in config.pools.items())
    return tuple(pool for pool in pools if pool is not None)


def _pool(
    name: str,
    section: PoolSection,
    config: Config,
    root: Path,
    usd_per_gpu: dict[str, float] | None,
    problems: list[str],
) -> Pool | None:
    """One pool; `None` if there are problems with it. usd_per_gpu: $/h by name of the GPU; `None`
    if the price list cannot be read, which is a problem of its own."""
    where = f"pools.{name}"
    before = len(problems)
    if not _fits_a_header(name):
        problems.append(f"pools.{name!r}: the name must be printable ASCII: it travels in a header")
    if section.model not in config.models:
        problems.append(f"{where}.model: `{section.model}` is not in models")
    problems += _backend_problems(section.backends, where)
    profile = _profile(section.profile, root, where, problems)
    usd = section.usd_per_hour
    if usd is None and profile is not None and usd_per_gpu is not None:
        usd = _listed_usd(profile, usd_per_gpu)
        if usd is None:
            missing = f"missing, and prices has none for {profile.gpu}"
            problems.append(f"{where}.usd_per_hour: {missing}")
    if len(problems) > before or profile is None or usd is None:
        return None
    most = len(section.backends) if section.max_backends is None else section.max_backends
    try:
        return Pool(
            name=name,
            model=section.model,
            profile=profile,
            usd_per_hour=usd,
            min_backends=section.min_backends,
            max_backends=most,
            reserved=section.reserved,
            zone=section.zone,
            spot=None if section.spot is None else Spot(**msgspec.structs.asdict(section.spot)),
        )
    except InvalidValue as error:
        problems.append(_at(where, str(error).removeprefix(f"pool {name}: ")))
        return None


def _fits_a_header(name: str) -> bool:
    """Whether a name can be the value of a header: a line break in it would begin another one."""
    return bool(name) and name.isascii() and name.isprintable() and name == name.strip()


def _backend_problems(urls: tuple[str, ...], where: str) -> Iterator[str]:
    """Lines for base URLs that cannot be used. where: path of the pool's section."""
    for index, url in enumerate(urls):
        if not url.startswith(("http://", "https://")):
            yield f"{where}.backends[{index}]: must start with http:// or https://"
        elif not _reachable(url):
            shown = url if url.isprintable() else repr(url)
            yield f"{where}.backends[{index}]: this is no URL of a host: {shown}"
        elif fault := _odd_part(url):
            yield f"{where}.backends[{index}]: {fault}"
    if len({url.rstrip("/") for url in urls}) < len(urls):
        yield f"{where}.backends: a URL is listed twice"


def _odd_part(url: str) -> str | None:
    """What a base URL has that is not sent to a backend, or would be sent twice."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        return "must not have a user or a password: neither is sent"
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        return "must not have a query or a fragment: neither is sent"
    if parts.path.rstrip("/").endswith("/v1"):
        return "must not end in /v1: the path of each request has it already"
    return None


def _reachable(url: str) -> bool:
    """Whether a URL has a host and a valid port, and can be written into a request's head."""
    try:
        url.encode("latin-1")
        if any(not character.isprintable() or character.isspace() for character in url):
            return False
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _listed_usd(profile: Profile, usd_per_gpu: dict[str, float]) -> float | None:
    """$/h of one backend: by the price list, else by the GPU's figures in the profile itself."""
    usd = usd_per_gpu.get(profile.gpu, profile.usd_per_gpu_hour)
    return None if usd is None else usd * profile.gpus


def _limits(section: LimitsSection, pools: tuple[Pool, ...], problems: list[str]) -> Limits:
    try:
        stock = tuple(Stock(gpu=s.gpu, most=s.most, zone=s.zone) for s in section.stock)
        known = {pool.gpu for pool in pools}
        problems += [f"limits.stock: no pool has {s.gpu}" for s in stock if s.gpu not in known]
        limits = Limits(
            stock=stock,
            budget_usd_per_hour=section.budget_usd_per_hour,
            survive=section.survive,
            start_usd=section.start_usd,
            stop_usd=section.stop_usd,
            horizon_h=section.horizon_h,
        )
        limits.check(pools)
    except InvalidValue as error:
        problems.append(f"limits.{error}")
        return Limits()
    return limits


def _at(where: str, text: str) -> str:
    """A line for a problem whose text may begin with the name of its key."""
    key, _, rest = text.partition(" must ")
    return f"{where}.{key}: must {rest}" if rest and key.isidentifier() else f"{where}: {text}"


def _profile(value: str, root: Path, where: str, problems: list[str]) -> Profile | None:
    try:
        return profiles.find_profile(value, root)
    except PlannerError as error:
        problems += [f"{where}.profile: {line}" for line in str(error).splitlines()]
        return None


def _grid(section: BucketSection, problems: list[str]) -> Grid | None:
    try:
        return Grid(
            input_edges=log_edges(
                section.input_from, section.input_to, per_octave=section.per_octave
            ),
            output_edges=log_edges(
                section.output_from, section.output_to, per_octave=section.per_octave
            ),
        )
    except InvalidValue as error:
        problems.append(f"buckets: {error}")
        return None


def _unusable(buckets: Buckets, pools: tuple[Pool, ...]) -> Iterator[str]:
    """Lines for pools that no bucket can use, and for models without a pool."""
    feasible = bucket_loads(Demand.none(buckets), pools).feasible
    for p, pool in enumerate(pools):
        if not feasible[:, p].any():
            slo = next(c.slo for c in buckets.classes if c.model == pool.model)
            yield (
                f"pools.{pool.name}: no bucket can use it: {pool.profile.gpu_label} cannot hold "
                f"TTFT {slo.ttft_s:g} s and TPOT {slo.tpot_s:g} s at any size"
            )
    for model in dict.fromkeys(slo_class.model for slo_class in buckets.classes):
        if not any(pool.model == model for pool in pools):
            yield f"models.{model}: no pool serves it"
