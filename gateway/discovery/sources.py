"""The sources that a configuration asks for. Knows every kind of source, and starts none."""

from pkgutil import resolve_name

from gateway.config.discover_schema import DnsSection
from gateway.config.load import Loaded
from gateway.discovery.file_source import FileSource
from gateway.discovery.kubernetes.sections import KubernetesPool, kubernetes_sources
from gateway.discovery.source import Source


def wanted(loaded: Loaded) -> dict[object, Source]:
    """The sources of a configuration, each by what it is made from: a source that runs is kept
    where another configuration has the same."""
    return {**_files(loaded), **_names(loaded), **_clusters(loaded)}


def by_pool(loaded: Loaded) -> dict[str, str]:
    """The names of the sources, by pool."""
    return {pool: one.name for one in wanted(loaded).values() for pool in one.pools}


def _files(loaded: Loaded) -> dict[object, Source]:
    """A source for each file, which several pools may share."""
    pools: dict[str, list[str]] = {}
    for name, section in loaded.config.pools.items():
        if section.discover is not None and section.discover.file is not None:
            pools.setdefault(section.discover.file, []).append(name)
    made = ((loaded.root / file, tuple(names)) for file, names in pools.items())
    return {("file", path, names): FileSource(path, names) for path, names in made}


def _names(loaded: Loaded) -> dict[object, Source]:
    """A source for each name in DNS, which pools of several models may share."""
    pools: dict[DnsSection, list[str]] = {}
    for name, section in loaded.config.pools.items():
        if section.discover is not None and section.discover.dns is not None:
            pools.setdefault(section.discover.dns, []).append(name)
    if not pools:
        return {}
    # Its library takes 6 MiB, which a gateway without such pools need not hold.
    source = resolve_name("gateway.discovery.dns_source:DnsSource")
    made = ((section, tuple(names)) for section, names in pools.items())
    return {(section, names): source(section, names) for section, names in made}


def _clusters(loaded: Loaded) -> dict[object, Source]:
    """A source for each API server of Kubernetes, which all pools there share."""
    pools = []
    for pool in loaded.pools:
        section = loaded.config.pools[pool.name]
        if section.discover is not None and section.discover.kubernetes is not None:
            pools.append(
                KubernetesPool(
                    name=pool.name,
                    section=section.discover.kubernetes,
                    gpu=pool.gpu,
                    gpus=pool.gpus,
                    model=section.served_name or pool.model,
                    engine=section.engine,
                )
            )
    return dict(kubernetes_sources(pools, loaded.root))
