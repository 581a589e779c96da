"""Reads the configuration file and makes the planner's values of it. Knows no live object.

Every mistake is reported at once, one line each, with the line in the file and the path of its key.
Paths in the file are relative to the file.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.access import access_keys
from gateway.config.access_keys import AccessKeys
from gateway.config.addresses import check_addresses
from gateway.config.admin_keys import AdminKeys, admin_keys
from gateway.config.alternatives import UnusableAlternative
from gateway.config.cluster import check_cluster
from gateway.config.discover import check_discover
from gateway.config.findings import Findings, did_you_mean
from gateway.config.fleet_limits import check_limits, fleet_limits
from gateway.config.kv_events import check_kv_events
from gateway.config.names import check_names
from gateway.config.otel import check_otel
from gateway.config.own_tls import OwnTls
from gateway.config.pool_schema import PoolSection
from gateway.config.pools import Pools
from gateway.config.promises import check_promises, check_unit, section_of, unit_mistakes
from gateway.config.scale import check_scale
from gateway.config.schema import (
    BucketSection,
    Config,
    ModelSection,
    SloSection,
)
from gateway.config.tokenizer_file import TokenizerFile, tokenizer_files
from gateway.config.upstream import TlsPaths, Upstream, upstreams
from gateway.config.variables import expanded
from gateway.config.weights import check_weights
from gateway.errors import ConfigError
from planner import files
from planner.document import Document, noted, read, shown, under
from planner.errors import InvalidFile, InvalidValue
from planner.model.buckets import DEFAULT, Buckets, SloClass
from planner.model.pool import Pool
from planner.program.limits import Limits
from planner.sizes import Grid, log_edges
from planner.slo import Slo

# For required keys of a pool, while the rest of it is looked at.
STAND_IN = {"model": "", "profile": ""}


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A checked configuration, and the planner's values made of it.

    pools: with profiles and prices, in the order of the file: what the gateway serves with.
    alternatives: what could be rented beside them, by `any_of`; left_out: those of which no plan
    would use one, with the reason. limits: of provisioned plans.
    workload: path of a trace, or `None`. trace, journal: paths that the gateway writes, or `None`.
    warnings: what is allowed and hardly wanted, a line each.
    files: all that it was made from, its own first. overrides: settings of the section `gateway`
    that stand in place of the file's. upstreams: how engines are spoken to, by pool. tokenizers: by
    model, where it names one. root: the folder that paths are relative to. access: the keys of
    clients; `None`: they need none. admin: who may use the admin port. tls, admin_tls: files of the
    two ports, `None`: HTTP.
    """

    config: Config
    pools: tuple[Pool, ...]
    buckets: Buckets
    workload: Path | None
    trace: Path | None = None
    journal: Path | None = None
    limits: Limits = Limits()
    alternatives: tuple[Pool, ...] = ()
    left_out: tuple[UnusableAlternative, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    overrides: Mapping[str, Any] = {}
    upstreams: Mapping[str, Upstream] = {}
    tokenizers: Mapping[str, TokenizerFile] = {}
    root: Path = Path()
    access: AccessKeys | None = None
    admin: AdminKeys = AdminKeys()
    tls: TlsPaths | None = None
    admin_tls: TlsPaths | None = None

    def to_rent(self) -> "Loaded":
        """The same with the alternatives among the pools: what commands that plan choose from. No
        gateway serves with it, because alternatives have no backends."""
        pools = (*self.pools, *self.alternatives)
        return msgspec.structs.replace(self, pools=pools, alternatives=())


def load(
    path: Path,
    *,
    gateway: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """Read and check a configuration file. Raises ConfigError with one line for each problem.

    gateway: settings in place of those of the section `gateway`. environ: variables of the values.
    """
    overrides = dict(gateway or {})
    with noted() as paths:
        loaded = _load(path, overrides, environ)
        if loaded.workload is not None:
            paths.append(loaded.workload)
    return msgspec.structs.replace(loaded, files=tuple(dict.fromkeys(paths)), overrides=overrides)


def without_file(model: str, slo: Slo, pools: tuple[Pool, ...], section: BucketSection) -> Loaded:
    """What a configuration file would mean that has one model, one promise and these pools.

    Nothing runs, so no pool has a backend. model: the name in the pools. section: the grid of
    sizes. Raises InvalidValue for a promise in milliseconds or a grid that is none.
    """
    for key, text in unit_mistakes(slo):
        raise InvalidValue(f"{key} {text}")
    promise = SloSection(ttft_s=slo.ttft_s, tpot_s=slo.tpot_s, attainment=slo.attainment)
    config = Config(models={model: ModelSection(slo=promise)}, pools={}, buckets=section)
    buckets = Buckets(classes=(SloClass(model=model, slo=slo),), grid=_edges(section))
    return Loaded(config=config, pools=pools, buckets=buckets, workload=None)


def _load(path: Path, gateway: Mapping[str, Any], environ: Mapping[str, str]) -> Loaded:
    document = _document(path)
    findings = Findings(path, document)
    raw, unknown = expanded(document.value, environ)
    findings.unusable(unknown)
    raw = dict(raw, gateway=_overridden(raw.get("gateway"), gateway)) if gateway else raw
    config: Config | None
    config, mistakes = files.converted(raw, Config)
    findings.unusable(line for line in mistakes if not findings.hides(line.partition(": ")[0]))
    if config is None:
        raise ConfigError(findings.problems)
    loaded = _checked(_completed(config, raw, findings), raw, path.parent, findings, environ)
    if findings.problems or loaded is None:
        raise ConfigError(findings.problems)
    return msgspec.structs.replace(loaded, warnings=findings.warnings)


def _document(path: Path) -> Document:
    """The file, which holds a mapping. Raises ConfigError, with the line of a syntax error, or both
    lines of a key that stands twice in a mapping."""
    try:
        document = read(path)
    except InvalidFile as error:
        lines = str(error).splitlines()
        if any("expected ',' or" in line for line in lines) and "${" in path.read_text():
            lines[-1] += " (inside { } or [ ] a ${VARIABLE} needs quotes)"
        raise ConfigError(tuple(lines)) from error
    if not isinstance(document.value, dict):
        raise ConfigError((f"{path}: must be a mapping with `models` and `pools`",))
    return document


def _overridden(section: Any, settings: Mapping[str, Any]) -> Any:
    """A section with these settings in it; one that is no mapping stays, as a mistake."""
    return section | dict(settings) if isinstance(section, dict) else section or dict(settings)


def _completed(config: Config, raw: Any, findings: Findings) -> Config:
    """The configuration with pools whose required keys have mistakes too: what else they have is
    looked at, with stand-ins for these keys."""
    pools = dict.fromkeys(raw["pools"])
    for name, entry in raw["pools"].items():
        pools[name] = config.pools.get(name)
        if pools[name] is None and isinstance(entry, dict):
            where = under("pools", name)
            right = {k: v for k, v in entry.items() if not findings.hides(under(where, k))}
            pools[name], _ = files.converted(STAND_IN | right, PoolSection)
    made = {str(name): pool for name, pool in pools.items() if pool is not None}
    return msgspec.structs.replace(config, pools=made)


def _checked(
    config: Config, raw: Any, root: Path, findings: Findings, environ: Mapping[str, str]
) -> Loaded | None:
    """The planner's values, as far as they can be made; findings hear of the rest."""
    check_names(config, findings)
    _check_models(config, raw, findings)
    _check_times(config, findings)
    check_addresses(config.pools, config.gateway, findings)
    check_discover(config, raw, root, findings)
    check_cluster(config, root, findings)
    check_otel(config, root, findings)
    check_kv_events(config, findings)
    check_scale(config, root, environ, findings)
    check_weights(config, root, findings)
    reached = upstreams(config, root, environ, findings)
    tokenizers = tokenizer_files(config, root, findings)
    access = access_keys(config, root, environ, findings)
    admin, own_tls = admin_keys(config, root, environ, findings), OwnTls(config, root, findings)
    maker = Pools(config, root, findings)
    pools = maker.made()
    found = tuple(maker.alternatives(pools))
    alternatives = tuple(one for one in found if isinstance(one, Pool))
    left_out = tuple(one for one in found if isinstance(one, UnusableAlternative))
    grid = _grid(config.buckets, findings)
    classes = tuple(_classes(config, findings))
    limits = fleet_limits(config.limits, findings)
    workload = root / config.planner.workload if config.planner.workload else None
    if workload is not None and not workload.is_file():
        findings.problem("planner.workload", f"no such file: {shown(workload)}")
    trace = root / config.gateway.trace.path if config.gateway.trace else None
    journal = root / config.gateway.journal.path if config.gateway.journal else None
    _check_written("gateway.trace.path", trace, (workload,), findings)
    _check_written("gateway.journal.path", journal, (workload, trace), findings)
    if grid is None:
        return None
    buckets = Buckets(classes=classes, grid=grid)
    if classes and pools:
        useless = check_promises(buckets, pools, alternatives, findings)
        left_out += tuple(
            UnusableAlternative(name=name, reason=text) for name, text in useless.items()
        )
        alternatives = tuple(pool for pool in alternatives if pool.name not in useless)
    if not findings.hides("pools") and limits is not None:
        check_limits(limits, pools, alternatives, findings)
    return Loaded(
        config=config,
        pools=pools,
        buckets=buckets,
        workload=workload,
        trace=trace,
        journal=journal,
        limits=limits or Limits(),
        alternatives=alternatives,
        left_out=left_out,
        upstreams=reached,
        tokenizers=tokenizers,
        root=root,
        access=access,
        admin=admin,
        tls=own_tls.data,
        admin_tls=own_tls.admin,
    )


def _check_written(
    key: str, path: Path | None, others: Sequence[Path | None], findings: Findings
) -> None:
    """A file that the gateway writes is none of the others that it uses, and can be written."""
    if path is None:
        return
    if path in others:  # of a file that is read, each line would be a new configuration
        findings.problem(key, f"{shown(path)} is another file of this configuration already")
    elif path.is_dir():
        findings.problem(key, f"a folder: {shown(path)}")
    elif not path.parent.is_dir():
        findings.warning(key, f"no such folder: {shown(path.parent)}")


def _check_models(config: Config, raw: Any, findings: Findings) -> None:
    """Pools name models, and every model has a pool. raw: the file, in which models are named that
    could not be made."""
    for section in ("models", "pools"):
        if not raw[section]:
            findings.problem(section, "needs at least one entry")
    for name, pool in config.pools.items():
        if pool.model and pool.model not in raw["models"]:
            near = did_you_mean(pool.model, raw["models"])
            text = f"`{shown(pool.model)}` is not in models{near}"
            findings.problem(f"{under('pools', name)}.model", text)
    served = {pool.model for pool in config.pools.values()}
    if len(config.pools) == len(raw["pools"]) > 0 and served <= set(raw["models"]):
        for model in config.models:  # else a pool may be meant for it
            if model not in served:
                findings.problem(under("models", model), "no pool serves it")


def _check_times(config: Config, findings: Findings) -> None:
    planner = config.planner
    if planner.interval_s > planner.window_s:
        text = (
            f"{planner.interval_s:g} is longer than planner.window_s, {planner.window_s:g}: what "
            "arrives between two looks would not be counted"
        )
        findings.problem("planner.interval_s", text)
    gateway = config.gateway
    if gateway.buffer_bytes is not None and gateway.buffer_bytes < gateway.max_body_bytes:
        text = f"{gateway.buffer_bytes} is less than max_body_bytes, {gateway.max_body_bytes}"
        findings.problem("gateway.buffer_bytes", text)


def _classes(config: Config, findings: Findings) -> Iterator[SloClass]:
    """The SLO classes of all models that can be planned with, each model's default class first."""
    for model, name, section in _slo_sections(config):
        where = section_of(model, name)
        try:
            slo = Slo(**{key: getattr(section, key) for key in SloSection.__struct_fields__})
        except InvalidValue as error:
            findings.invalid(where, str(error))
            continue
        if check_unit(where, slo, config.gateway.first_byte_timeout_s, findings):
            yield SloClass(model=model, slo=slo, name=name)


def _slo_sections(config: Config) -> Iterator[tuple[str, str, SloSection]]:
    """Every SLO class as its model, its name and its section."""
    for model, section in config.models.items():
        yield model, DEFAULT, section.slo
        for name, slo in section.classes.items():
            if name != DEFAULT:
                yield model, name, slo


def _edges(section: BucketSection) -> Grid:
    """The grid of a section. Raises InvalidValue."""
    per_octave = section.per_octave
    return Grid(
        input_edges=log_edges(section.input_from, section.input_to, per_octave=per_octave),
        output_edges=log_edges(section.output_from, section.output_to, per_octave=per_octave),
    )


def _grid(section: BucketSection, findings: Findings) -> Grid | None:
    try:
        return _edges(section)
    except InvalidValue as error:
        findings.problem("buckets", str(error))
        return None
