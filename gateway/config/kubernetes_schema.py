"""The section of a pool whose backends Kubernetes knows: keys, types, domains and meanings.

As in `schema`, the text below each key is its documentation.
"""

from typing import Literal

import msgspec


class KubernetesSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pods or endpoints of a Kubernetes cluster: one of `selector`, `service` and `inference_pool`
    says which ([discovery in Kubernetes](discovery-kubernetes.md)).
    """

    namespace: str | None = None
    """Where they are. Default: the namespace of the gateway's own pod; outside of a cluster
    `default`.
    """
    selector: str | None = None
    """Pods by their labels, as `kubectl get pods -l` takes it: `app=vllm,tier!=test`."""
    service: str | None = None
    """The endpoints of this service, by its EndpointSlices."""
    inference_pool: str | None = None
    """The pods of this InferencePool of the Gateway API's inference extension, each with all its
    target ports.
    """
    port: int | str | None = None
    """Number, or name that pod or service have for it. Default: the target ports of the
    InferencePool; else the pod's label `model.aibrix.ai/port`, its port named `http`, or 8000; of a
    service its only port or that named `http`.
    """
    scheme: Literal["http", "https"] = "http"
    """How the engines are spoken to. `https` needs the pool's `tls_server_name`: what is found has
    an address, and certificates are for names.
    """
    inference_pool_version: Literal["v1", "v1alpha2"] = "v1"
    """Version of the API that has the InferencePool: `v1` of `inference.networking.k8s.io`, or the
    older `v1alpha2` of `inference.networking.x-k8s.io`.
    """
    gpu: Literal["strict", "ignore"] = "strict"
    """`strict` leaves pods out whose GPU type, number of GPUs or tensor parallelism, where it is
    told, is not that of the profile; `ignore` does not compare.
    """
    gpu_products: dict[str, str] = {}
    """GPU types by the names that labels have for them, before those that are known:
    `NVIDIA-H100-PCIe: H100`.
    """
    labels: dict[Literal["gpu", "gpus", "model", "engine", "tensor_parallel_size"], str] = {}
    """Labels of pods, nodes and nodeSelectors that tell these, before those that are known:
    `gpu: example.com/gpu`.
    """
    nodes: bool = False
    """Whether labels of the pods' nodes are read too. Needs a ClusterRole that may get nodes."""
    api_server: str | None = None
    """URL of the API, `http://127.0.0.1:8001` for `kubectl proxy`. Default: that of the cluster
    that the gateway runs in, with the token and authorities of its service account.
    """
    token_file: str | None = None
    """File with a token for `api_server`, relative to this file; read for each request."""
    ca_file: str | None = None
    """Certificates, in PEM, of the authorities that `api_server` is trusted by, relative to this
    file. Default: those that the system trusts.
    """
