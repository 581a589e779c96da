"""What is read of objects of the Kubernetes API; all other fields are skipped while decoding.

https://kubernetes.io/docs/reference/kubernetes-api/ has the fields, and
https://gateway-api-inference-extension.sigs.k8s.io/reference/spec those of InferencePool.
"""

from typing import Any

import msgspec


class KubeStruct(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all: the API writes names in camel case."""


class ObjectMeta(KubeStruct, frozen=True):
    """What every object has. deletionTimestamp: it is being deleted."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None


class ListMeta(KubeStruct, frozen=True):
    """Of a list. continue: where its next page begins; empty or none at the last one."""

    resource_version: str = ""
    go_on: str | None = msgspec.field(name="continue", default=None)


class ContainerPort(KubeStruct, frozen=True):
    """A port that a container says it listens on."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class ContainerResources(KubeStruct, frozen=True):
    """Limits by resource; quantities are text or numbers."""

    limits: dict[str, str | int] | None = None


class ContainerSpec(KubeStruct, frozen=True):
    """One container of a pod."""

    name: str = ""
    image: str = ""
    command: list[str] | None = None
    args: list[str] | None = None
    ports: list[ContainerPort] | None = None
    resources: ContainerResources | None = None


class PodSpec(KubeStruct, frozen=True):
    """Where a pod runs and what in it. affinity is read by `facts`, as it is."""

    node_name: str = ""
    node_selector: dict[str, str] | None = None
    affinity: dict[str, Any] | None = None
    containers: list[ContainerSpec] = []
    # Sidecars that start before the others stand here; they may have ports.
    init_containers: list[ContainerSpec] | None = None


class PodCondition(KubeStruct, frozen=True):
    """One condition; status is `True`, `False` or `Unknown`."""

    type: str
    status: str


class PodStatus(KubeStruct, frozen=True):
    """What a pod is at now."""

    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: list[PodCondition] | None = None


class PodObject(KubeStruct, frozen=True):
    """A pod (core/v1)."""

    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class NodeObject(KubeStruct, frozen=True):
    """A node (core/v1): its labels alone."""

    metadata: ObjectMeta


class SliceConditions(KubeStruct, frozen=True):
    """Of an endpoint. ready: unknown means ready, says the API. serving: as ready, but for
    terminating ones."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(KubeStruct, frozen=True):
    """The object that an endpoint stands for."""

    kind: str = ""
    name: str = ""


class SliceEndpoint(KubeStruct, frozen=True):
    """One endpoint; only the first address is used, as the API says that readers do."""

    addresses: list[str] = []
    conditions: SliceConditions = SliceConditions()
    target_ref: TargetRef | None = None
    node_name: str | None = None


class SlicePort(KubeStruct, frozen=True):
    """A port that all endpoints of a slice have."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class SliceObject(KubeStruct, frozen=True):
    """An EndpointSlice (discovery.k8s.io/v1)."""

    metadata: ObjectMeta
    address_type: str = ""
    endpoints: list[SliceEndpoint] | None = None
    ports: list[SlicePort] | None = None


class LabelSelector(KubeStruct, frozen=True):
    """Labels that all must match. InferencePool knows no expressions."""

    match_labels: dict[str, str] | None = None


class TargetPort(KubeStruct, frozen=True):
    """A port of the pods of an InferencePool."""

    number: int


class InferencePoolSpec(KubeStruct, frozen=True):
    """Which pods, and the ports of each; every port is an endpoint of its own."""

    selector: LabelSelector = LabelSelector()
    target_ports: list[TargetPort] = []


class InferencePoolObject(KubeStruct, frozen=True):
    """An InferencePool (inference.networking.k8s.io/v1)."""

    metadata: ObjectMeta
    spec: InferencePoolSpec = InferencePoolSpec()

    def labels(self) -> dict[str, str]:
        """Those that its pods have; empty if it has no selector."""
        return self.spec.selector.match_labels or {}

    def ports(self) -> list[int]:
        """Those of each pod."""
        return [port.number for port in self.spec.target_ports]


class OldInferencePoolSpec(KubeStruct, frozen=True):
    """Which pods, and their one port."""

    selector: dict[str, str] | None = None
    target_port_number: int | None = None


class OldInferencePoolObject(KubeStruct, frozen=True):
    """An InferencePool of before 2026 (inference.networking.x-k8s.io/v1alpha2)."""

    metadata: ObjectMeta
    spec: OldInferencePoolSpec = OldInferencePoolSpec()

    def labels(self) -> dict[str, str]:
        """As of `InferencePoolObject`."""
        return self.spec.selector or {}

    def ports(self) -> list[int]:
        """As of `InferencePoolObject`."""
        number = self.spec.target_port_number
        return [] if number is None else [number]


class StatusObject(KubeStruct, frozen=True):
    """How the API says no: the body of an error, and the object of a watch's ERROR event."""

    code: int = 0
    reason: str = ""
    message: str = ""


class ObjectList(KubeStruct, frozen=True):
    """A page of a list; what its items are, the caller knows."""

    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] = []


class WatchEvent(KubeStruct, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw
