"""Reading the configuration file, with clear errors. Knows no live object.

One YAML file. Unknown keys are errors. Paths in it are relative to the file. `load` reports every
problem it finds, one line each, with the path of the key.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import yaml

from gateway.config.schema import (
    BucketSection,
    Config,
    GatewaySection,
    LimitsSection,
    ModelSection,
    PlannerSection,
    PoolSection,
    SloSection,
)
from gateway.errors import ConfigError
from planner.costs import prices
from planner.engine import profiles
from planner.engine.profiles import Profile
from planner.errors import InvalidFile, InvalidValue
from planner.model.buckets import DEFAULT, Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool, Spot
from planner.program.headroom import bucket_loads
from planner.program.limits import Limits, Stock
from planner.sizes import Grid, log_edges
from planner.slo import Slo


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A checked configuration and the planner's values made from it.

    pools: with profiles and prices, in the file's order. limits: of provisioned plans. workload:
    absolute path.
    """

    config: Config
    pools: tuple[Pool, ...]
    buckets: Buckets
    workload: Path | None
    limits: Limits = Limits()


S = TypeVar("S")


def load(path: Path) -> Loaded:
    """Reads and checks a configuration file. Raises ConfigError with one line per problem."""
    raw = _yaml(path)
    problems: list[str] = []
    config = _sections(raw, problems)
    if config is None:
        raise ConfigError(tuple(problems))
    problems += _domain(config)
    classes = _classes(config, problems)
    pools = _pools(config, path.parent, problems)
    grid = _grid(config.buckets, problems)
    if problems or grid is None:
        raise ConfigError(tuple(problems))
    buckets = Buckets(classes=classes, grid=grid)
    problems += _unusable(buckets, pools)
    limits = _limits(config.limits, pools, problems)
    workload = path.parent / config.planner.workload if config.planner.workload else None
    if workload is not None and not workload.is_file():
        problems.append(f"planner.workload: no such file: {workload}")
    if problems:
        raise ConfigError(tuple(problems))
    return Loaded(config=config, pools=pools, buckets=buckets, workload=workload, limits=limits)


def _yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from error
    except yaml.YAMLError as error:
        line = getattr(error, "problem_mark", None)
        where = f"{path}:{line.line + 1}" if line else str(path)
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError((f"{where}: {problem}",)) from error
    if not isinstance(raw, dict):
        raise ConfigError((f"{path}: must be a mapping with `models` and `pools`",))
    return raw


def _sections(raw: dict[str, Any], problems: list[str]) -> Config | None:
    """The file's sections, each converted by itself so that one mistake does not hide another."""
    parts: dict[str, Any] = {}
    named = (("models", ModelSection), ("pools", PoolSection))
    for key, section in named:
        entries = raw.get(key)
        if not isinstance(entries, dict) or not entries:
            problems.append(f"{key}: needs at least one entry")
            continue
        converted = {
            n: _convert(_by_class(e, f"{key}.{n}", problems), section, f"{key}.{n}", problems)
            for n, e in entries.items()
        }
        parts[key] = {str(n): e for n, e in converted.items() if e is not None}
    single = (
        ("buckets", BucketSection),
        ("planner", PlannerSection),
        ("limits", LimitsSection),
        ("gateway", GatewaySection),
    )
    for key, section_type in single:
        if key in raw:
            parts[key] = _convert(raw[key], section_type, key, problems)
    if raw.get("prices") is not None:
        parts["prices"] = _convert(raw["prices"], str, "prices", problems)
    known = set(Config.__struct_fields__)
    problems += [f"{key}: unknown key" for key in raw if key not in known]
    return None if problems else Config(**parts)


def _by_class(entry: Any, path: str, problems: list[str]) -> Any:
    """A model's entry whose classes are converted already: msgspec's errors name no key of a map.

    Classes that are wrong are told and left out.
    """
    classes = entry.get("classes") if isinstance(entry, dict) else None
    if not isinstance(classes, dict):
        return entry
    known = {
        n: _convert(c, SloSection, f"{path}.classes.{n}", problems) for n, c in classes.items()
    }
    return entry | {"classes": {str(n): slo for n, slo in known.items() if slo is not None}}


def _convert(value: Any, kind: type[S], path: str, problems: list[str]) -> S | None:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$")
        where = where.rstrip("`")
        if text.startswith("Object contains unknown field"):
            field = text.split("`")[1]
            problems.append(f"{path}{where}.{field}: unknown key")
        elif text.startswith("Object missing required field"):
            field = text.split("`")[1]
            problems.append(f"{path}{where}.{field}: missing")
        else:
            problems.append(f"{path}{where}: {text[0].lower()}{text[1:]}")
        return None


def _domain(config: Config) -> Iterator[str]:
    """Numbers outside their domain, found by their names: durations, counts and shares."""
    zero_is_fine = {
        "port",
        "admin_port",
        "retries",
        "queue_requests",
        "queue_timeout_s",
        "min_saving",
    }
    zero_is_fine |= {"drain_s", "drain_delay_s"}
    for name in ("planner", "gateway"):
        section = getattr(config, name)
        for key in section.__struct_fields__:
            value = getattr(section, key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not value < float("inf") or value < 0 or (value == 0 and key not in zero_is_fine):
                least = "not negative" if key in zero_is_fine else "positive"
                yield f"{name}.{key}: must be {least} and finite: {value}"
    for name, model in config.models.items():
        if not 0 < model.bytes_per_token < float("inf"):
            yield f"models.{name}.bytes_per_token: must be positive: {model.bytes_per_token}"


def _classes(config: Config, problems: list[str]) -> tuple[SloClass, ...]:
    classes = []
    for model, title, section, where in _promises(config):
        if not title.isascii() or not title.isprintable() or title != title.strip() or not title:
            problems.append(f"{where}: the name must be printable ASCII: it travels in a header")
        elif title == DEFAULT and where != f"models.{model}.slo":
            problems.append(f"{where}: the class `{DEFAULT}` is models.{model}.slo")
        try:
            slo = Slo(**{key: getattr(section, key) for key in SloSection.__struct_fields__})
            classes.append(SloClass(model=model, slo=slo, name=title))
        except InvalidValue as error:
            problems.append(_at(where, str(error)))
    return tuple(classes)


def _promises(config: Config) -> Iterator[tuple[str, str, SloSection, str]]:
    """Every SLO class: its model, its name, its section and the section's path."""
    for model, section in config.models.items():
        yield model, DEFAULT, section.slo, f"models.{model}.slo"
        for title, slo in section.classes.items():
            yield model, title, slo, f"models.{model}.classes.{title}"


def _pools(config: Config, root: Path, problems: list[str]) -> tuple[Pool, ...]:
    usd_per_gpu: dict[str, float] = {}
    if config.prices is not None:
        try:
            usd_per_gpu = dict(prices.read_prices(root / config.prices))
        except InvalidFile as error:
            problems.append(f"prices: {error}")
            return ()
    pools = (_pool(n, s, config, root, usd_per_gpu, problems) for n, s in config.pools.items())
    return tuple(pool for pool in pools if pool is not None)


def _reachable(url: str) -> bool:
    """Whether a URL names a host, and a port if any, and can be written into a request."""
    try:
        url.encode("latin-1")
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _pool(
    name: str,
    section: PoolSection,
    config: Config,
    root: Path,
    usd_per_gpu: dict[str, float],
    problems: list[str],
) -> Pool | None:
    where = f"pools.{name}"
    known = len(problems)
    if section.model not in config.models:
        problems.append(f"{where}.model: `{section.model}` is not in models")
    for position, url in enumerate(section.backends):
        if not url.startswith(("http://", "https://")):
            problems.append(f"{where}.backends[{position}]: must start with http:// or https://")
        elif not _reachable(url):
            problems.append(f"{where}.backends[{position}]: this is no URL of a host: {url}")
    if len(set(section.backends)) < len(section.backends):
        problems.append(f"{where}.backends: a URL is listed twice")
    profile = _profile(section.profile, root, where, problems)
    usd = section.usd_per_hour
    if usd is None and profile is not None:
        if profile.gpu in usd_per_gpu:
            usd = usd_per_gpu[profile.gpu] * profile.gpus
        else:
            missing = f"missing, and prices has none for {profile.gpu}"
            problems.append(f"{where}.usd_per_hour: {missing}")
    if len(problems) > known or profile is None or usd is None:
        return None
    try:
        return Pool(
            name=name,
            model=section.model,
            profile=profile,
            usd_per_hour=usd,
            min_backends=section.min_backends,
            max_backends=(
                len(section.backends) if section.max_backends is None else section.max_backends
            ),
            reserved=section.reserved,
            zone=section.zone,
            spot=None if section.spot is None else Spot(**msgspec.structs.asdict(section.spot)),
        )
    except InvalidValue as error:
        problems.append(_at(where, str(error).removeprefix(f"pool {name}: ")))
        return None


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
    """A problem that may begin with the name of its key, as a line with the key's path."""
    key, _, rest = text.partition(" must ")
    return f"{where}.{key}: must {rest}" if rest and key.isidentifier() else f"{where}: {text}"


def _profile(name: str, root: Path, where: str, problems: list[str]) -> Profile | None:
    try:
        return profiles.read_profile(root / name)
    except InvalidFile as error:
        problems.append(f"{where}.profile: {error}")
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
    """Pools that no bucket can use, and models without a pool."""
    feasible = bucket_loads(Demand.none(buckets), pools).feasible
    for p, pool in enumerate(pools):
        if not feasible[:, p].any():
            slo = next(c.slo for c in buckets.classes if c.model == pool.model)
            yield (
                f"pools.{pool.name}: no bucket can use it: {pool.profile.gpu_label} cannot hold "
                f"TTFT {slo.ttft_s:g} s and TPOT {slo.tpot_s:g} s at any size"
            )
    for model in dict.fromkeys(kind.model for kind in buckets.classes):
        if not any(pool.model == model for pool in pools):
            yield f"models.{model}: no pool serves it"
