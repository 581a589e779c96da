"""Which pods and endpoints are the backends of which pool, and why others are not. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.discovery.kubernetes.facts import (
    GPU_PRODUCT,
    Facts,
    Labels,
    facts,
    label_port,
)
from gateway.discovery.kubernetes.gpus import part_of_gpu, same_gpu
from gateway.discovery.kubernetes.objects import PodObject, SliceEndpoint, SliceObject
from gateway.discovery.source import Found

PORT = 8000  # vLLM's; that of llm-d's proxy beside it too
PORT_NAME = "http"
NAMED = 3  # pods that a remark names


class PoolRule(NamedTuple):
    """What a pool wants of its backends.

    where: what is looked at, for remarks: `default/app=vllm`. port: number or name, `None`: found.
    strict: whether GPUs are compared. gpu, gpus: of its profile. model: the name that its engines
    serve it under. engine: `None` if it may be any. products: GPU types by product names. labels:
    its own. scheme: of the engines' URLs.
    """

    pool: str
    where: str
    port: int | str | None = None
    strict: bool = True
    gpu: str = ""
    gpus: int = 1
    model: str = ""
    engine: str | None = None
    products: Mapping[str, str] = {}
    labels: Labels = Labels()
    scheme: str = "http"


class PoolLook(NamedTuple):
    """What the API has for one pool now: pods, or slices of endpoints where it follows a service.

    ports: of an InferencePool. nodes: labels of nodes by name, of those that are known. trouble:
    what is wrong with where it looks, for remarks.
    """

    rule: PoolRule
    pods: Sequence[PodObject] = ()
    slices: Sequence[SliceObject] = ()
    ports: Sequence[int] = ()
    nodes: Mapping[str, Mapping[str, str]] = {}
    trouble: tuple[str, ...] = ()


class Candidate(NamedTuple):
    """One endpoint that may be a backend. fault: why it cannot be one of this pool. doubt: what is
    not as the pool says, though it is used."""

    name: str
    url: str
    fault: str | None = None
    doubt: str | None = None


class Remarks:
    """Lines about pools, with one line for all pods that the same is said of."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], list[str]] = {}

    def __repr__(self) -> str:
        return f"<Remarks {len(self._names)}>"

    def add(self, pool: str, text: str, name: str = "") -> None:
        """Note what is said of a pool or, in it, of a pod."""
        names = self._names.setdefault((pool, text), [])
        if name and name not in names:
            names.append(name)

    @property
    def lines(self) -> tuple[str, ...]:
        """In the order of their first mention."""
        return tuple(_line(*key, names) for key, names in self._names.items())


def assign(looks: Sequence[PoolLook]) -> Found:
    """The URLs of each pool, by the order of pools in the file.

    A pod that two pools want is the first one's. One that does not fit into a pool (it has another
    GPU, say) is left out there with a remark, unless another pool takes it: pools may share a
    selector and differ by their GPUs.
    """
    remarks = Remarks()
    owner: dict[str, str] = {}
    urls: dict[str, tuple[str, ...]] = {}
    faults: list[tuple[str, Candidate]] = []
    for look in looks:
        pool, own = look.rule.pool, []
        for text in look.trouble:
            remarks.add(pool, text)
        candidates = sorted(_candidates(look))
        for one in candidates:
            if one.fault is not None:
                faults.append((pool, one))
                continue
            first = owner.setdefault(one.url, pool)
            if first != pool:
                text = f"left out: pool {first} comes first in the file and has it already"
                remarks.add(pool, text, one.name)
            elif one.url not in own:  # while slices are rearranged, an endpoint may be in two
                own.append(one.url)
                if one.doubt is not None:
                    remarks.add(pool, one.doubt, one.name)
        if not candidates and not look.trouble:
            remarks.add(pool, _nobody(look))
        urls[pool] = tuple(own)
    taken = set(owner)
    for pool, one in faults:
        if one.url not in taken:
            remarks.add(pool, f"left out: {one.fault}", one.name)
    return Found(urls, remarks.lines)


def _line(pool: str, text: str, names: Sequence[str]) -> str:
    if not names:
        return f"pool {pool}: {text}"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"pool {pool}: {', '.join(names[:NAMED])}{more}: {text}"


def _nobody(look: PoolLook) -> str:
    """Why a pool has no candidate."""
    where = look.rule.where
    seen = len(look.pods) or sum(len(part.endpoints or ()) for part in look.slices)
    return f"{seen} found by {where}, none ready" if seen else f"nothing found by {where}"


def _candidates(look: PoolLook) -> Iterator[Candidate]:
    rule = look.rule
    for pod in look.pods:
        if pod_ready(pod):
            found = facts(pod, look.nodes.get(pod.spec.node_name), rule.labels)
            ports, fault = pod_ports(pod, rule, look.ports)
            fault = found.idle or fault or unfit(found, rule)
            for port in ports or (0,):
                url = base_url(pod.status.pod_ip, port, rule.scheme)
                yield Candidate(pod.metadata.name, url, fault, _doubt(found, rule))
    for part in look.slices:
        number, fault = _slice_port(part, rule)
        for endpoint in part.endpoints or ():
            if endpoint_ready(endpoint):
                node = look.nodes.get(endpoint.node_name or "") or {}
                product = next((node[n] for n in GPU_PRODUCT if n in node), None)
                found = Facts(product=product)
                name = (endpoint.target_ref and endpoint.target_ref.name) or endpoint.addresses[0]
                url = base_url(endpoint.addresses[0], number or 0, rule.scheme)
                wrong = fault or unfit(found, rule)
                yield Candidate(name, url, wrong, _doubt(found, rule))


def pod_ready(pod: PodObject) -> bool:
    """Whether a pod serves: it runs, says that it is ready, and is not about to be deleted."""
    ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())
    running = pod.status.phase == "Running" and bool(pod.status.pod_ip)
    return ready and running and pod.metadata.deletion_timestamp is None


def endpoint_ready(endpoint: SliceEndpoint) -> bool:
    """Whether an endpoint serves; conditions that are not known count as the API says."""
    conditions = endpoint.conditions
    return (
        bool(endpoint.addresses)
        and conditions.ready is not False
        and conditions.serving is not False
        and not conditions.terminating
    )


def base_url(host: str, port: int, scheme: str = "http") -> str:
    """The URL of an engine at an address; IPv6 addresses stand in brackets (RFC 3986, 3.2.2)."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def unfit(found: Facts, rule: PoolRule) -> str | None:
    """Why an engine cannot be one of a pool's; what is unknown is no reason."""
    if found.model is not None and rule.model and not same_model(found.model, rule.model):
        return f"its model is {found.model}, the pool's is {rule.model}"
    if not rule.strict:
        return None
    product = found.product
    mapped = product is not None and product in rule.products
    if product is not None:
        part = None if mapped else part_of_gpu(product) or found.part
        if part is not None:
            return f"it has a part of a GPU ({part}), the profile is of whole ones"
        if not same_gpu(product, rule.gpu, rule.products):
            return f"its GPU is {product}, the profile's is {rule.gpu}"
    elif found.part is not None:
        return f"it has a part of a GPU ({found.part}), the profile is of whole ones"
    for number, what in (
        (found.gpus, "GPUs"),
        (found.tensor_parallel_size, "GPUs for tensor parallelism"),
    ):
        if number is not None and number != rule.gpus:
            return f"it has {number} {what}, the profile is of {rule.gpus}"
    return None


def same_model(label: str, model: str) -> bool:
    """Whether a label's value names a model: values have no slash, and are often written small."""
    spellings = {_plain(model), _plain(model.rpartition("/")[2])}
    return _plain(label) in spellings


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.casefold())


def _doubt(found: Facts, rule: PoolRule) -> str | None:
    """What cannot be compared, or differs without harm to plans."""
    if found.engine is not None and rule.engine is not None and found.engine != rule.engine:
        return f"used, but its engine seems to be {found.engine}, the pool's is {rule.engine}"
    if rule.strict and found.product is None:
        return (
            f"used as {rule.gpu} on trust: no label tells its GPU, such as {GPU_PRODUCT[0]} in its "
            "nodeSelector or, with `nodes: true`, of its node"
        )
    return None


def pod_ports(
    pod: PodObject, rule: PoolRule, ports: Sequence[int]
) -> tuple[Sequence[int], str | None]:
    """The ports of a pod's engines, or why there is none."""
    if isinstance(rule.port, int):
        return (rule.port,), None
    if rule.port is None and ports:
        return ports, None
    containers = (*pod.spec.containers, *(pod.spec.init_containers or ()))
    named = {port.name: port.container_port for one in containers for port in one.ports or ()}
    if rule.port is not None:
        port = named.get(rule.port)
        return ((), f"it has no port named {rule.port}") if port is None else ((port,), None)
    return (label_port(pod.metadata.labels or {}) or named.get(PORT_NAME, PORT),), None


def _slice_port(part: SliceObject, rule: PoolRule) -> tuple[int | None, str | None]:
    """The port of a slice's endpoints, or why there is none."""
    if isinstance(rule.port, int):
        return rule.port, None
    named = {port.name or "": port.port for port in part.ports or ()}
    if rule.port is not None:
        port = named.get(rule.port)
        return port, None if port else f"the service has no port named {rule.port}"
    port = next(iter(named.values())) if len(named) == 1 else named.get(PORT_NAME)
    if port is None:
        names = ", ".join(sorted(named)) or "none"
        return None, f"`port` must say which port of the service ({names})"
    return port, None
