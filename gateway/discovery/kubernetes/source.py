"""The source of all pools that follow one Kubernetes API.

One source for all of them, because a pod belongs to one pool: that is decided where all are seen.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from gateway.discovery.kubernetes.api import (
    ApiFault,
    ApiRefusal,
    ApiServer,
    KubeApi,
    in_cluster,
)
from gateway.discovery.kubernetes.objects import (
    InferencePoolObject,
    NodeObject,
    OldInferencePoolObject,
    PodObject,
    SliceObject,
)
from gateway.discovery.kubernetes.pods import PoolLook, PoolRule, assign, pod_ready
from gateway.discovery.kubernetes.reflector import Reflector, Resource, WatchTiming
from gateway.discovery.source import Found

log = logging.getLogger("cuvee.discovery")

TIMING = WatchTiming()
SERVICE_LABEL = "kubernetes.io/service-name"
INFERENCE = "inference.networking.k8s.io"
OLD_INFERENCE = "inference.networking.x-k8s.io"


class PoolTarget(NamedTuple):
    """What one pool follows: one of selector, service and inference_pool. nodes: whether labels of
    nodes are read. inference_version: of the API that has the InferencePool."""

    rule: PoolRule
    namespace: str
    selector: str | None = None
    service: str | None = None
    inference_pool: str | None = None
    nodes: bool = False
    inference_version: str = "v1"


class KubernetesSource:
    """The `Source` of the pools that follow an API server."""

    def __init__(
        self,
        watches: Sequence[PoolTarget],
        server: ApiServer | None = None,
        timing: WatchTiming = TIMING,
    ) -> None:
        """watches: in the order of the file. server: `None`: that of the cluster around."""
        self.name = f"kubernetes {', '.join(dict.fromkeys(one.rule.where for one in watches))}"
        self.pools = tuple(one.rule.pool for one in watches)
        self._watches = tuple(watches)
        self._server = server
        self._timing = timing

    def __repr__(self) -> str:
        return f"<KubernetesSource of {', '.join(self.pools)}>"

    async def run(self, found: Callable[[Found], None], failed: Callable[[str], None]) -> None:
        """Follow the API for ever; see `Source`."""
        while True:
            try:
                server = self._server or in_cluster(os.environ)
                await Following(self._watches, KubeApi(server), self._timing).run(found, failed)
            except ApiFault as error:
                failed(str(error))
            except Exception as error:  # a mistake of ours, or a server that is none
                log.exception("the Kubernetes API is followed anew")
                failed(f"followed anew after {type(error).__name__}: {error}")
            await asyncio.sleep(self._timing.longest_pause_s)


class Following:
    """What is kept of the API while it is followed."""

    def __init__(self, watches: Sequence[PoolTarget], api: KubeApi, timing: WatchTiming) -> None:
        self._watches = watches
        self._api = api
        self._timing = timing
        self._looked = asyncio.Event()
        self._reflectors: dict[Resource, Reflector] = {}
        self._tasks: dict[Resource, asyncio.Task[None]] = {}
        self._nodes: dict[str, Mapping[str, str]] = {}
        self._nodes_due_s = 0.0
        self._node_fault: str | None = None

    def __repr__(self) -> str:
        return f"<Following {len(self._reflectors)} resources>"

    async def run(self, found: Callable[[Found], None], failed: Callable[[str], None]) -> None:
        """Tell what there is after each look. Raises what a reflector raises."""
        try:
            while True:
                self._follow(self._wanted())
                await self._looked.wait()
                # A rollout changes many pods at nearly one moment.
                await asyncio.sleep(self._timing.settle_s)
                self._looked.clear()
                for task in self._tasks.values():
                    if task.done():
                        task.result()
                await self._look(found, failed)
        finally:
            self._follow(())

    def _wanted(self) -> list[Resource]:
        """The resources that are needed, as far as is known by now."""
        resources: dict[Resource, None] = {}
        for watch in self._watches:
            resources[first_resource(watch)] = None
            if (pods := self._members(watch)) is not None:
                resources[pods] = None
        return list(resources)

    def _follow(self, wanted: Sequence[Resource]) -> None:
        """Start and end reflectors, so that these run."""
        for resource in set(self._tasks) - set(wanted):
            self._tasks.pop(resource).cancel()
            del self._reflectors[resource]
        for resource in wanted:
            if resource not in self._tasks:
                reflector = Reflector(self._api, resource, self._looked.set, self._timing)
                task = asyncio.get_running_loop().create_task(reflector.run())
                task.add_done_callback(lambda _: self._looked.set())
                self._reflectors[resource], self._tasks[resource] = reflector, task

    def _inference_pool(
        self, watch: PoolTarget
    ) -> InferencePoolObject | OldInferencePoolObject | None:
        reflector = self._reflectors.get(first_resource(watch))
        found: InferencePoolObject | OldInferencePoolObject | None = None
        if watch.inference_pool is not None and reflector is not None:
            found = reflector.objects.get(watch.inference_pool)
        return found

    def _members(self, watch: PoolTarget) -> Resource | None:
        """The pods of an InferencePool, once it is known which."""
        pool = self._inference_pool(watch)
        labels = {} if pool is None else pool.labels()
        if not labels:
            return None
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        return pods_resource(watch.namespace, selector)

    async def _look(self, found: Callable[[Found], None], failed: Callable[[str], None]) -> None:
        """Tell what the reflectors have now, as soon as each had its first look.

        Pools whose resources cannot be looked at are not told of, so that they keep what they have;
        their pods stay theirs. A look has failed if it is so of all pools.
        """
        if any(r not in self._reflectors for r in self._wanted()):
            return  # an InferencePool has come or has changed: its pods are still to be listed
        if not all(one.synced or one.fault for one in self._reflectors.values()):
            return
        await self._read_nodes()
        faults = {r: one.fault for r, one in self._reflectors.items() if one.fault}
        looks = [self._pool_look(watch) for watch in self._watches]
        result = assign(looks)
        blind = {w.rule.pool for w in self._watches if self._blind(w)}
        urls = {pool: urls for pool, urls in result.urls.items() if pool not in blind}
        nodes = (self._node_fault,) if self._node_fault else ()
        if urls:
            found(Found(urls, (*faults.values(), *nodes, *result.remarks)))
        else:
            failed("; ".join(faults.values() or result.remarks))

    def _blind(self, watch: PoolTarget) -> bool:
        """Whether a pool's pods are not known now."""
        if watch.inference_pool is not None and self._members(watch) is None:
            return True
        used = (first_resource(watch), self._members(watch))
        return any(r is not None and self._reflectors[r].fault is not None for r in used)

    def _pool_look(self, watch: PoolTarget) -> PoolLook:
        first = self._reflectors[first_resource(watch)]
        rule, nodes = watch.rule, self._nodes if watch.nodes else {}
        if watch.service is not None:
            return PoolLook(rule, slices=_sorted(first), nodes=nodes, trouble=_trouble(first))
        if watch.inference_pool is None:
            return PoolLook(rule, _sorted(first), nodes=nodes, trouble=_trouble(first))
        pool, pods = self._inference_pool(watch), self._members(watch)
        if pool is None or pods is None:
            fault = "has no selector" if pool is not None else "does not exist"
            text = f"InferencePool {watch.namespace}/{watch.inference_pool} {fault}"
            trouble = _trouble(first) or (text,)
            return PoolLook(rule, trouble=trouble)
        ports = pool.ports()
        members = self._reflectors[pods]
        trouble = _trouble(first) + _trouble(members)
        return PoolLook(rule, _sorted(members), ports=ports, nodes=nodes, trouble=trouble)

    async def _read_nodes(self) -> None:
        """Read the labels of nodes that are not known yet; all of them again after `resync_s`. What
        is known stays where a node cannot be read."""
        now_s, names = time.monotonic(), self._node_names()
        again = now_s >= self._nodes_due_s
        if again:
            self._nodes_due_s, self._node_fault = now_s + self._timing.resync_s, None
            self._nodes = {name: self._nodes[name] for name in names & set(self._nodes)}
        elif self._node_fault is not None:
            return
        for name in sorted(names if again else names - set(self._nodes)):
            try:
                answer = await self._api.get(f"/api/v1/nodes/{quote(name, safe='')}")
                node = msgspec.json.decode(answer, type=NodeObject)
                self._nodes[name] = node.metadata.labels or {}
            except (ApiFault, msgspec.DecodeError) as error:
                if not isinstance(error, ApiRefusal) or error.status != 404:  # it has gone
                    self._node_fault = _node_fault(error)
                    self._nodes_due_s = now_s + self._timing.longest_pause_s
                    return

    def _node_names(self) -> set[str]:
        """Nodes on which what may be a backend runs, of pools that read nodes."""
        names: set[str] = set()
        for watch in self._watches:
            if watch.nodes:
                look = self._pool_look(watch)
                names |= {pod.spec.node_name for pod in look.pods if pod_ready(pod)}
                ends = (end for part in look.slices for end in part.endpoints or ())
                names |= {end.node_name or "" for end in ends}
        return names - {""}


def first_resource(watch: PoolTarget) -> Resource:
    """What is followed for a pool before anything else is known."""
    if watch.service is not None:
        labels = f"{SERVICE_LABEL}={watch.service}"
        group = "discovery.k8s.io"
        return Resource(SliceObject, group, "v1", "endpointslices", watch.namespace, labels)
    if watch.inference_pool is not None:
        fields = f"metadata.name={watch.inference_pool}"
        old = watch.inference_version != "v1"
        return Resource(
            OldInferencePoolObject if old else InferencePoolObject,
            OLD_INFERENCE if old else INFERENCE,
            watch.inference_version,
            "inferencepools",
            watch.namespace,
            fields=fields,
        )
    return pods_resource(watch.namespace, watch.selector or "")


def pods_resource(namespace: str, selector: str) -> Resource:
    """Pods by labels."""
    return Resource(PodObject, "", "v1", "pods", namespace, selector)


def _sorted(reflector: Reflector) -> list:  # type: ignore[type-arg]
    """Objects by name; of what type, the resource says."""
    return [reflector.objects[name] for name in sorted(reflector.objects)]


def _trouble(reflector: Reflector) -> tuple[str, ...]:
    """Nothing was seen yet, which is no news of the pods. The fault itself is told beside."""
    return () if reflector.synced else ("not looked at yet",)


def _node_fault(error: Exception) -> str:
    if isinstance(error, ApiRefusal) and error.status == 403:
        rule = '{apiGroups: [""], resources: [nodes], verbs: [get]}'
        return f"may not get nodes: a ClusterRole must have {rule}, or `nodes` be false; {error}"
    return f"cannot get nodes: {error}"
