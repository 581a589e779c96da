"""What labels, resources and arguments of a pod say about the engine in it. Pure.

Where the names come from: NVIDIA GPU feature discovery (`nvidia.com/gpu.product`), AMD's node
labeller (`amd.com/gpu.product-name`), GKE (`cloud.google.com/gke-accelerator`); llm-d's chart
llm-d-modelservice (`llm-d.ai/role`, `llm-d.ai/model`); AIBrix's `pkg/constants`
(`model.aibrix.ai/name`, `.../engine`, `.../port`, and `role-name` of StormService); KServe
(`serving.kserve.io/inferenceservice`); LeaderWorkerSet (`.../worker-index`).
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.discovery.kubernetes.objects import ContainerSpec, PodObject, PodSpec

GPU_PRODUCT = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "beta.amd.com/gpu.product-name",
    "cloud.google.com/gke-accelerator",
)
GPU_COUNT = ("nvidia.com/gpu", "amd.com/gpu")
GPU_PART = ("nvidia.com/mig-", "nvidia.com/gpu.shared")
MODEL = ("model.aibrix.ai/name",)  # the one that must be the name that the engine serves
# What others call the deployment: it need not be the model's name, so it is told and not compared.
DEPLOYMENT = (
    "llm-d.ai/model",
    "llm-d.ai/guide",
    "serving.kserve.io/inferenceservice",
    "app.kubernetes.io/name",
)
ENGINE = ("model.aibrix.ai/engine", "llm-d.ai/engine-type")
ROLE = ("llm-d.ai/role", "role-name")
PORT = ("model.aibrix.ai/port",)
WORKER = "leaderworkerset.sigs.k8s.io/worker-index"
# vLLM, SGLang, TGI.
PARALLEL = ("--tensor-parallel-size", "-tp", "--tp-size", "--tp", "--num-shard")
ENGINES = ("vllm", "sglang", "text-generation-inference")
KINDS = {"text-generation-inference": "tgi"}


class Labels(NamedTuple):
    """Labels of one's own, which go before those that are known here; `None`: there is none."""

    gpu: str | None = None
    gpus: str | None = None
    model: str | None = None
    engine: str | None = None
    tensor_parallel_size: str | None = None


class Facts(NamedTuple):
    """What is known of one engine; `None` is unknown.

    product: of the GPU. gpus: whole ones that the pod may use. part: the resource of a piece of a
    GPU. engine: `vllm`, `sglang` or `tgi`. idle: why it serves no requests of its own.
    """

    product: str | None = None
    gpus: int | None = None
    part: str | None = None
    model: str | None = None
    engine: str | None = None
    tensor_parallel_size: int | None = None
    idle: str | None = None


def facts(pod: PodObject, node: Mapping[str, str] | None, own: Labels) -> Facts:
    """What a pod says. node: the labels of its node, if they may be read."""
    labels, spec = pod.metadata.labels or {}, pod.spec
    wanted = spec.node_selector or {}
    gpus, part = _gpus(spec.containers)
    return Facts(
        product=_first(
            (own.gpu, *GPU_PRODUCT) if own.gpu else GPU_PRODUCT,
            # The node is where it runs; what the pod asked for is what it must have got.
            (node or {}, wanted, _required(spec), labels),
        ),
        gpus=_count(labels.get(own.gpus or "")) or gpus,
        part=part,
        model=_first((own.model, *MODEL) if own.model else MODEL, (labels,)),
        engine=_engine(labels, spec.containers, own),
        tensor_parallel_size=_count(labels.get(own.tensor_parallel_size or ""))
        or _parallel(spec.containers),
        idle=_idle(labels),
    )


def label_port(labels: Mapping[str, str]) -> int | None:
    """The engine's port, where a label tells it."""
    return _count(_first(PORT, (labels,)))


def _first(names: Iterable[str], places: Sequence[Mapping[str, str]]) -> str | None:
    """The first value in the first place that has one of the labels."""
    names = tuple(names)
    return next((place[n] for place in places for n in names if place.get(n)), None)


def _count(text: str | int | None) -> int | None:
    """A positive whole number; everything else is unknown."""
    try:
        number = int(text or 0)
    except ValueError:
        return None
    return number if number > 0 else None


def _gpus(containers: Sequence[ContainerSpec]) -> tuple[int | None, str | None]:
    """Whole GPUs of all containers, and a resource that is a part of one."""
    total = 0
    part: str | None = None
    for container in containers:
        limits = container.resources.limits if container.resources else None
        for name, quantity in (limits or {}).items():
            if name in GPU_COUNT:
                total += _count(quantity) or 0
            elif name.startswith(GPU_PART):
                part = name
    return total or None, part


def _required(spec: PodSpec) -> dict[str, str]:
    """Labels that the node must have by the pod's required affinity, with one value each. Terms are
    alternatives: only where there is one of them it says what the node is."""
    place: object = spec.affinity
    for key in ("nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"):
        place = place.get(key) if isinstance(place, dict) else None
    terms = place.get("nodeSelectorTerms") if isinstance(place, dict) else None
    if not isinstance(terms, list) or len(terms) != 1 or not isinstance(terms[0], dict):
        return {}
    found = {}
    for one in terms[0].get("matchExpressions") or ():
        values = list(one.get("values") or ())
        if one.get("operator") == "In" and len(values) == 1:
            found[one.get("key", "")] = values[0]
    return found


def _words(container: ContainerSpec) -> list[str]:
    """Command and arguments as words; a script for a shell is one argument with many."""
    words: list[str] = []
    for text in (*(container.command or ()), *(container.args or ())):
        try:
            words += shlex.split(text, comments=True)
        except ValueError:  # quotes that do not close: the shell will say more
            words += text.split()
    return words


def _parallel(containers: Sequence[ContainerSpec]) -> int | None:
    """The number of GPUs that the engine's arguments share the model out to."""
    for container in containers:
        words = _words(container)
        for word, after in zip(words, [*words[1:], ""], strict=False):
            name, equals, value = word.partition("=")
            if name in PARALLEL:
                return _count(value if equals else after)
    return None


def _engine(
    labels: Mapping[str, str], containers: Sequence[ContainerSpec], own: Labels
) -> str | None:
    """The engine by its label or by the name of an image."""
    told = _first((own.engine, *ENGINE) if own.engine else ENGINE, (labels,))
    if told is not None:
        return KINDS.get(told.casefold(), told.casefold())
    for container in containers:
        # Registry and path name engines too; so does the tag `v0.4-vllm` of something else.
        path = container.image.partition("@")[0].casefold()
        found = next((engine for engine in ENGINES if engine in path), None)
        if found is not None:
            return KINDS.get(found, found)
    return None


def _idle(labels: Mapping[str, str]) -> str | None:
    """Why requests must not go to a pod that belongs to an engine."""
    role = _first(ROLE, (labels,))
    if role == "prefill":
        return "it only prefills: its role is `prefill`"
    if labels.get(WORKER, "0") != "0":
        return f"it is worker {labels[WORKER]} of a group; its leader answers"
    return None
