"""Tells Kubernetes which pods should go first where a ReplicaSet shrinks. Knows no wish.

https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost
"""

from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from gateway.actuation.kube_objects import KubeObjects, object_path
from gateway.discovery.kubernetes.api import ApiRefusal
from gateway.discovery.kubernetes.objects import KubeStruct, ObjectMeta

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
COST = "-100"  # that of other pods is 0


class NamedObject(KubeStruct, frozen=True):
    """An object of which nothing but the name is read."""

    metadata: ObjectMeta


class NamedObjects(KubeStruct, frozen=True):
    """A list of such."""

    items: tuple[NamedObject, ...] = ()


class DeletionCost:
    """The pods of one namespace that were told to go first, by what this told them."""

    def __init__(self, objects: KubeObjects, namespace: str) -> None:
        self._objects = objects
        self._namespace = namespace
        self._marked: dict[str, str] = {}  # names of pods, by their hosts

    def __repr__(self) -> str:
        return f"<DeletionCost of {len(self._marked)} pods>"

    async def mark(self, leaving: Sequence[str]) -> None:
        """Have the pods behind these URLs go first, and no others that were told so. Raises
        ApiFault."""
        hosts = {urlsplit(url).hostname or "" for url in leaving} - {""}
        for host in set(self._marked) - hosts:
            await self._set(self._marked[host], None)
            del self._marked[host]
        for host in sorted(hosts - set(self._marked)):
            for name in await self._names(host):
                await self._set(name, COST)
                self._marked[host] = name

    async def _names(self, host: str) -> list[str]:
        selector = quote(f"status.podIP={host}", safe="")
        root = object_path("v1", self._namespace, "pods", "").rstrip("/")
        found = await self._objects.read(f"{root}?fieldSelector={selector}", NamedObjects)
        return [one.metadata.name for one in found.items]

    async def _set(self, name: str, cost: str | None) -> None:
        target = object_path("v1", self._namespace, "pods", name)
        change = {"metadata": {"annotations": {ANNOTATION: cost}}}
        try:
            await self._objects.patch(target, change, NamedObject)
        except ApiRefusal as refusal:
            if refusal.status != 404:  # it has gone, as it should
                raise
