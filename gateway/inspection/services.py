"""Whether the services around a gateway answer: Redis, sources of backends, Kubernetes' rights."""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.cluster.store import Store, StoreError
from gateway.config.load import Loaded
from gateway.config.scale import kind_of
from gateway.discovery.kubernetes.api import ACCOUNT, ApiFault, KubeApi, in_cluster
from gateway.discovery.kubernetes.sections import api_of, own_namespace
from gateway.inspection.examined import CheckGroup, Examined

GROUP = CheckGroup("services", "docs/discovery.md")
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Right(NamedTuple):
    """What must be allowed at the Kubernetes API."""

    group: str
    resource: str
    verb: str
    namespace: str
    subresource: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {what}{where}"


async def of_redis(loaded: Loaded) -> list[Examined]:
    """Whether the cluster's Redis answers. Nothing without a cluster."""
    section = loaded.config.gateway.cluster
    if section is None:
        return []
    where = urlsplit(section.redis).hostname
    store = Store(section, loaded.root, "doctor")
    try:
        await store.said("stamp")
    except StoreError as error:
        hint = "start it, or correct gateway.cluster.redis, its password and its network policy"
        return [GROUP.error("Redis", f"{where}: {error}", hint, "docs/cluster.md#set-up")]
    finally:
        await store.aclose()
    return [GROUP.fine("Redis", f"{where} answers")]


def of_sources(
    names: Sequence[str], failed: Mapping[str, str], remarks: Sequence[str]
) -> Iterator[Examined]:
    """What a look at the sources of backends has found. names: of all that there are."""
    for name, why in failed.items():
        hint = "until it answers, the pool has the backends of the file only"
        yield GROUP.error("sources", f"{name}: {why}", hint, "#what-happens-when-a-source-fails")
    for remark in remarks:
        yield GROUP.warning("sources", remark, "it is not used as a backend", "#watching-it")
    if names and not failed:
        yield GROUP.fine("sources", f"{', '.join(names)} answer")


async def of_rights(loaded: Loaded) -> list[Examined]:
    """Whether the Kubernetes API allows what pools need. Nothing where no pool needs it."""
    found: list[Examined] = []
    for section, rights in _wanted(loaded):
        anchor = "docs/discovery-kubernetes.md#rights"
        try:
            server = api_of(section, loaded.root) or in_cluster(os.environ)
            api = KubeApi(server)
            allowed = await asyncio.gather(*(_allowed(api, one) for one in rights))
        except ApiFault as error:
            hint = "`api_server`, its token and its authorities"
            found.append(GROUP.error("Kubernetes", str(error), hint, anchor))
            continue
        missing = [str(one) for one, may in zip(rights, allowed, strict=True) if not may]
        if missing:
            text = f"this account may not {', '.join(missing)}"
            found.append(GROUP.error("Kubernetes", text, "a Role with these rules", anchor))
        else:
            text = f"this account may {', '.join(map(str, rights))}"
            found.append(GROUP.fine("Kubernetes", text))
    return found


def _wanted(loaded: Loaded) -> Iterator[tuple[Any, list[Right]]]:
    """The sections of pools about Kubernetes, each with the rights that it needs."""
    for pool in loaded.config.pools.values():
        found = pool.discover and pool.discover.kubernetes
        if found:
            namespace = found.namespace or own_namespace(ACCOUNT)
            group, resource = "", "pods"
            if found.service is not None:
                group, resource = "discovery.k8s.io", "endpointslices"
            rights = [Right(group, resource, verb, namespace) for verb in ("list", "watch")]
            if found.nodes and found.gpu == "strict":
                rights.append(Right("", "nodes", "get", ""))
            yield found, rights
        scaled = pool.scale and pool.scale.kubernetes
        if scaled:
            namespace = scaled.namespace or own_namespace(ACCOUNT)
            version, plural = kind_of(scaled)
            group = version.rpartition("/")[0]
            verbs = ("get", "patch")
            yield scaled, [Right(group, plural, verb, namespace, "scale") for verb in verbs]


async def _allowed(api: KubeApi, right: Right) -> bool:
    """Whether an account may do something, by its own word. Raises ApiFault."""
    attributes = {
        "group": right.group, "resource": right.resource, "verb": right.verb,
        "namespace": right.namespace, "subresource": right.subresource,
    }  # fmt: skip
    body = json.dumps({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    })  # fmt: skip
    try:
        answer = msgspec.json.decode(
            await api.ask("POST", REVIEW, body.encode(), "application/json")
        )
        return bool(answer["status"]["allowed"])
    except (msgspec.DecodeError, KeyError, TypeError):
        raise ApiFault(f"{api.server.url}: not what the API answers") from None
