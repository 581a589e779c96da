"""Looks once at the pods with some labels, and says what is known of the engines in them.

For a configuration that is still to be written: no pool is known yet.
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from gateway.discovery.kubernetes.api import ApiFault, KubeApi
from gateway.discovery.kubernetes.facts import Facts, Labels, facts
from gateway.discovery.kubernetes.objects import NodeObject, ObjectList, PodObject
from gateway.discovery.kubernetes.pods import PoolRule, base_url, pod_ports, pod_ready
from gateway.discovery.kubernetes.source import pods_resource

MOST = 500  # pods of one page: more engines of one kind say nothing new


class SurveyedPod(NamedTuple):
    """A pod that serves. facts: what its labels, its arguments and its node say."""

    name: str
    url: str
    facts: Facts


class Survey(NamedTuple):
    """What was found. seen: pods with these labels, ready or not. nodes: whether the labels of
    nodes could be read."""

    pods: tuple[SurveyedPod, ...]
    seen: int
    nodes: bool


async def survey(api: KubeApi, namespace: str, selector: str) -> Survey:
    """The pods that serve and have these labels. Raises ApiFault."""
    target = pods_resource(namespace, selector).path
    query = urlencode({"labelSelector": selector, "limit": MOST})
    try:
        listed = msgspec.json.decode(await api.get(f"{target}?{query}"), type=ObjectList)
        every = [msgspec.json.decode(item, type=PodObject) for item in listed.items]
    except msgspec.DecodeError as error:
        raise ApiFault(f"{api.server.url}: not what the API answers: {error}") from None
    ready = [pod for pod in every if pod_ready(pod)]
    labels = await _nodes(api, {pod.spec.node_name for pod in ready} - {""})
    found = []
    for pod in ready:
        told = facts(pod, (labels or {}).get(pod.spec.node_name), Labels())
        ports, _ = pod_ports(pod, PoolRule("", ""), ())
        if told.idle is None and ports:
            url = base_url(pod.status.pod_ip, ports[0])
            found.append(SurveyedPod(pod.metadata.name, url, told))
    return Survey(tuple(found), len(every), labels is not None)


async def _nodes(api: KubeApi, names: set[str]) -> Mapping[str, Mapping[str, str]] | None:
    """The labels of nodes by name; `None` where they may not be read."""
    found: dict[str, Mapping[str, str]] = {}
    for name in sorted(names):
        try:
            answer = await api.get(f"/api/v1/nodes/{quote(name, safe='')}")
            found[name] = msgspec.json.decode(answer, type=NodeObject).metadata.labels or {}
        except (ApiFault, msgspec.DecodeError):
            return None
    return found
