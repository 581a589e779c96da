"""The sources that sections of the configuration about Kubernetes ask for."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gateway.config.kubernetes import ApiKeys
from gateway.config.kubernetes_schema import KubernetesSection
from gateway.discovery.kubernetes.api import ACCOUNT, ApiServer
from gateway.discovery.kubernetes.facts import Labels
from gateway.discovery.kubernetes.pods import PoolRule
from gateway.discovery.kubernetes.source import KubernetesSource, PoolTarget

DEFAULT = "default"


class KubernetesPool(NamedTuple):
    """A pool with such a section. gpu, gpus: of its profile. model: the name that its engines serve
    it under. engine: `None` if it may be any."""

    name: str
    section: KubernetesSection
    gpu: str
    gpus: int
    model: str
    engine: str | None


def kubernetes_sources(
    pools: Iterable[KubernetesPool], root: Path, account: Path = ACCOUNT
) -> dict[object, KubernetesSource]:
    """A source for each API server, by what it is made from. pools: in the order of the file.
    root: its folder. account: that of the pod's service account."""
    watches: dict[ApiServer | None, list[PoolTarget]] = {}
    for pool in pools:
        watches.setdefault(api_of(pool.section, root), []).append(pool_watch(pool, account))
    return {
        ("kubernetes", server, repr(of_server)): KubernetesSource(of_server, server)
        for server, of_server in watches.items()
    }


def pool_watch(pool: KubernetesPool, account: Path = ACCOUNT) -> PoolTarget:
    """What a pool follows."""
    section = pool.section
    namespace = section.namespace or own_namespace(account)
    if section.service is not None:
        where = f"{namespace}/service {section.service}"
    elif section.inference_pool is not None:
        where = f"{namespace}/InferencePool {section.inference_pool}"
    else:
        where = f"{namespace}/{section.selector}"
    rule = PoolRule(
        pool=pool.name,
        where=where,
        port=section.port,
        strict=section.gpu == "strict",
        gpu=pool.gpu,
        gpus=pool.gpus,
        model=pool.model,
        engine=pool.engine,
        products=section.gpu_products,
        labels=Labels(**section.labels),
        scheme=section.scheme,
    )
    return PoolTarget(
        rule,
        namespace,
        section.selector,
        section.service,
        section.inference_pool,
        section.nodes and rule.strict,
        section.inference_pool_version,
    )


def api_of(section: ApiKeys, root: Path) -> ApiServer | None:
    """The API server of a section; `None` is that of the cluster around."""
    if section.api_server is None:
        return None
    token, authorities = (
        root / file if file is not None else None for file in (section.token_file, section.ca_file)
    )
    return ApiServer(section.api_server, token, authorities)


def own_namespace(account: Path) -> str:
    """The namespace of the gateway's pod, or the one that kubectl takes."""
    try:
        return (account / "namespace").read_text(encoding="ascii").strip() or DEFAULT
    except (OSError, UnicodeDecodeError):
        return DEFAULT
