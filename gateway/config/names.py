"""Names of models, classes, pools and adapters: which are none, and which stand twice."""

from collections.abc import Iterator

from gateway.config.findings import Findings, did_you_mean
from gateway.config.schema import Config, ModelSection
from planner.document import shown, under
from planner.model.buckets import BEST_EFFORT, DEFAULT, MOST_CLASSES

PLAIN = "the name must be printable, without blanks around it"
HEADER = "the name must be printable ASCII: it travels in a header"


def check_names(config: Config, findings: Findings) -> None:
    """Names travel: those of pools and classes in headers, those of models in paths and logs."""
    for name, pool in config.pools.items():
        if not (name.isascii() and _is_plain(name)):
            findings.problem(under("pools", name), HEADER)
        if pool.served_name is not None and not _is_plain(pool.served_name):
            findings.problem(f"{under('pools', name)}.served_name", PLAIN)
    for model, section in config.models.items():
        if not _is_plain(model):
            findings.problem(under("models", model), PLAIN)
        _check_classes(model, section, findings)
    _check_twice(config, findings)
    _check_adapters(config, findings)


def _check_classes(model: str, section: ModelSection, findings: Findings) -> None:
    where = under("models", model)
    for name in section.classes:
        key = under(f"{where}.classes", name)
        if not (name.isascii() and _is_plain(name)):
            findings.problem(key, HEADER)
        elif name == DEFAULT:
            findings.problem(key, f"the class `{DEFAULT}` is {where}.slo")
        elif name == BEST_EFFORT:
            findings.problem(key, f"the class `{BEST_EFFORT}` is built in and has no promise")
    if len(section.classes) >= MOST_CLASSES:
        findings.problem(f"{where}.classes", f"at most {MOST_CLASSES - 1} beside `{DEFAULT}`")


def _check_twice(config: Config, findings: Findings) -> None:
    """A name that clients send means one thing."""
    first = {model: under("models", model) for model in config.models}
    for key, name in _further(config):
        if not _is_plain(name):
            findings.problem(key, PLAIN)
        elif first.setdefault(name, key) != key:
            findings.problem(key, f"`{shown(name)}` is {first[name]} already")


def _further(config: Config) -> Iterator[tuple[str, str]]:
    """The keys and the names of all aliases and adapters."""
    for model, section in config.models.items():
        where = under("models", model)
        for field, names in (("aliases", section.aliases), ("adapters", section.adapters)):
            for index, name in enumerate(names):
                yield f"{where}.{field}[{index}]", name


def _check_adapters(config: Config, findings: Findings) -> None:
    """Pools have adapters that their model has, and each adapter has a pool."""
    known = {model: set(section.adapters) for model, section in config.models.items()}
    served: set[str] = set()
    for name, pool in config.pools.items():
        own = known.get(pool.model)
        if own is None:
            continue  # a problem of its own
        served |= own if pool.adapters is None else set(pool.adapters)
        for adapter, engine_name in (pool.adapters or {}).items():
            key = under(f"{under('pools', name)}.adapters", adapter)
            if adapter not in own:
                near = did_you_mean(adapter, own)
                text = f"{under('models', pool.model)}.adapters does not have it{near}"
                findings.problem(key, text)
            elif engine_name is not None and not _is_plain(engine_name):
                findings.problem(key, PLAIN)
    for model, section in config.models.items():
        for index, adapter in enumerate(section.adapters):
            if adapter not in served and any(p.model == model for p in config.pools.values()):
                findings.problem(f"{under('models', model)}.adapters[{index}]", "no pool has it")


def _is_plain(name: str) -> bool:
    return bool(name) and name.isprintable() and name == name.strip()
