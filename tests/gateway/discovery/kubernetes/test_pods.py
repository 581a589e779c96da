"""Which pods are whose backends, and what is said of the others."""

import msgspec
import pytest

from gateway.discovery.kubernetes.facts import Labels
from gateway.discovery.kubernetes.gpus import part_of_gpu, same_gpu
from gateway.discovery.kubernetes.objects import PodObject, SliceObject
from gateway.discovery.kubernetes.pods import PoolLook, PoolRule, assign, base_url

A100 = PoolRule("a100", "default/app=vllm", gpu="A100-80G", model="llama")
H100 = A100._replace(pool="h100", gpu="H100")

TYPES = (  # that ship
    *("T4", "L4", "A10G", "L40S", "RTX-4090"),
    *("A100-40G", "A100-80G", "H100", "H200", "B200", "MI300X"),
)


def a_pod(name="vllm-0", ip="10.0.0.1", **changes) -> PodObject:
    """A running pod, as the API has it. changes: labels, product, limits, args, ports, image,
    ready, phase, deleted, node, affinity."""
    product = changes.get("product", "NVIDIA-A100-SXM4-80GB")
    document = {
        "metadata": {"name": name, "labels": changes.get("labels", {"app": "vllm"})},
        "spec": {
            "nodeName": changes.get("node", "node-1"),
            "nodeSelector": {"nvidia.com/gpu.product": product} if product else {},
            "containers": [
                {
                    "name": "engine",
                    "image": changes.get("image", "vllm/vllm-openai:v0.11.0"),
                    "args": changes.get("args", ["--model", "llama"]),
                    "ports": changes.get("ports", [{"name": "http", "containerPort": 8080}]),
                    "resources": {"limits": changes.get("limits", {"nvidia.com/gpu": "1"})},
                }
            ],
        },
        "status": {
            "phase": changes.get("phase", "Running"),
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": changes.get("ready", "True")}],
        },
    }
    if "affinity" in changes:
        document["spec"]["affinity"] = changes["affinity"]
    if changes.get("deleted"):
        document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return msgspec.convert(document, PodObject)


def remarks(rule, *pods, **look):
    """What is said when only these pods are there."""
    return assign([PoolLook(rule, pods, **look)]).remarks


def test_ready_pods_are_the_pool_in_the_order_of_their_names():
    """The same pods make the same list, however the API orders them."""
    pods = [a_pod("b", "10.0.0.2"), a_pod("a", "10.0.0.1")]

    found = assign([PoolLook(A100, pods)])

    assert found.urls == {"a100": ("http://10.0.0.1:8080", "http://10.0.0.2:8080")}
    assert found == assign([PoolLook(A100, pods[::-1])])
    assert found.remarks == ()


@pytest.mark.parametrize(
    "changes",
    [{"ready": "False"}, {"ready": "Unknown"}, {"phase": "Pending"}, {"ip": ""}, {"deleted": True}],
    ids=str,
)
def test_a_pod_that_cannot_serve_is_no_backend(changes):
    """Not ready, not running, without an address, or about to be deleted."""
    found = assign([PoolLook(A100, [a_pod(**changes)])])

    assert found.urls == {"a100": ()}
    assert found.remarks == ("pool a100: 1 found by default/app=vllm, none ready",)


def test_a_selector_that_matches_nothing_is_told():
    """A typing mistake in a label is seen at once."""
    assert remarks(A100) == ("pool a100: nothing found by default/app=vllm",)


@pytest.mark.parametrize(
    ("port", "changes", "url"),
    [
        (9000, {}, "http://10.0.0.1:9000"),
        ("http", {}, "http://10.0.0.1:8080"),
        (None, {}, "http://10.0.0.1:8080"),
        (None, {"ports": None}, "http://10.0.0.1:8000"),
        (None, {"labels": {"model.aibrix.ai/port": "8123"}}, "http://10.0.0.1:8123"),
        (None, {"ip": "fd00::7"}, "http://[fd00::7]:8080"),
    ],
    ids=str,
)
def test_the_port_is_that_of_the_configuration_or_of_the_pod(port, changes, url):
    """By number, by name, from AIBrix's label, the one named http, else 8000."""
    found = assign([PoolLook(A100._replace(port=port), [a_pod(**changes)])])

    assert found.urls == {"a100": (url,)}


def test_a_port_that_is_not_there_leaves_the_pod_out():
    """The remark has its name."""
    assert remarks(A100._replace(port="api"), a_pod()) == (
        "pool a100: vllm-0: left out: it has no port named api",
    )


def test_every_port_of_an_inference_pool_is_a_backend():
    """Data-parallel ranks listen side by side."""
    found = assign([PoolLook(A100, [a_pod()], ports=[8000, 8001])])

    assert found.urls == {"a100": ("http://10.0.0.1:8000", "http://10.0.0.1:8001")}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"product": "NVIDIA-H100-80GB-HBM3"},
            "its GPU is NVIDIA-H100-80GB-HBM3, the profile's is A100-80G",
        ),
        ({"limits": {"nvidia.com/gpu": "2"}}, "it has 2 GPUs, the profile is of 1"),
        (
            {"limits": {}, "args": ["--tensor-parallel-size=4"]},
            "it has 4 GPUs for tensor parallelism, the profile is of 1",
        ),
        (
            {"limits": {}, "args": ["-c", "vllm serve llama -tp 2 # one\n"]},
            "it has 2 GPUs for tensor parallelism, the profile is of 1",
        ),
        (
            {"limits": {"nvidia.com/mig-1g.10gb": "1"}, "product": None},
            "it has a part of a GPU (nvidia.com/mig-1g.10gb), the profile is of whole ones",
        ),
        (
            {"product": "NVIDIA-A100-SXM4-80GB-SHARED"},
            "it has a part of a GPU (SHARED), the profile is of whole ones",
        ),
        (
            {"labels": {"model.aibrix.ai/name": "qwen"}},
            "its model is qwen, the pool's is llama",
        ),
        ({"labels": {"llm-d.ai/role": "prefill"}}, "it only prefills: its role is `prefill`"),
        (
            {"labels": {"leaderworkerset.sigs.k8s.io/worker-index": "1"}},
            "it is worker 1 of a group; its leader answers",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_pod_that_would_be_planned_as_what_it_is_not_is_left_out(changes, why):
    """Plans are made from the profile; each reason has the names of both sides."""
    found = assign([PoolLook(A100, [a_pod(), a_pod("other", "10.0.0.9", **changes)])])

    assert found.urls == {"a100": ("http://10.0.0.1:8080",)}
    assert found.remarks == (f"pool a100: other: left out: {why}",)


def test_pods_of_one_reason_share_a_line():
    """A hundred wrong pods are not a hundred lines."""
    pods = [a_pod(f"p{i}", f"10.0.0.{i}", product="NVIDIA-L4") for i in range(5)]

    (line,) = remarks(A100, *pods)

    assert line.startswith("pool a100: p0, p1, p2 and 2 more: left out: its GPU is NVIDIA-L4")


def test_gpus_are_not_compared_where_the_configuration_says_so():
    """`gpu: ignore` takes every pod that the selector finds."""
    found = assign([PoolLook(A100._replace(strict=False), [a_pod(product="NVIDIA-L4")])])

    assert len(found.urls["a100"]) == 1
    assert found.remarks == ()


def test_a_missing_label_is_told_and_the_pod_serves():
    """What nobody says is no reason to take a fleet down."""
    found = assign([PoolLook(A100, [a_pod(product=None)])])

    assert len(found.urls["a100"]) == 1
    assert "vllm-0: used as A100-80G on trust: no label tells its GPU" in found.remarks[0]


def test_the_node_tells_the_gpu_where_nodes_may_be_read():
    """And it goes before what the pod asked for."""
    nodes = {"node-1": {"nvidia.com/gpu.product": "NVIDIA-L4"}}

    assert "its GPU is NVIDIA-L4" in remarks(A100, a_pod(product=None), nodes=nodes)[0]
    assert "its GPU is NVIDIA-L4" in remarks(A100, a_pod(), nodes=nodes)[0]


def test_a_required_affinity_tells_the_gpu():
    """With one term and one value; of alternatives nobody knows which one it became."""
    term = {
        "matchExpressions": [
            {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L4"]}
        ]
    }

    def affinity(*terms):
        needed = {"nodeSelectorTerms": list(terms)}
        return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": needed}}

    one, two = affinity(term), affinity(term, {"matchExpressions": []})
    assert "its GPU is NVIDIA-L4" in remarks(A100, a_pod(product=None, affinity=one))[0]
    assert "on trust" in remarks(A100, a_pod(product=None, affinity=two))[0]


def test_own_labels_and_products_come_from_the_configuration():
    """Whoever labels otherwise says how."""
    rule = A100._replace(
        products={"big": "A100-80G"}, labels=Labels(gpu="us/gpu", gpus="us/n", model="us/model")
    )
    labels = {"us/gpu": "big", "us/n": "1", "us/model": "llama"}

    good = a_pod(product=None, labels=labels)
    bad = a_pod(product=None, labels=labels | {"us/n": "2"})
    other = a_pod(product=None, labels=labels | {"us/model": "qwen"})

    assert remarks(rule, good) == ()
    assert "it has 2 GPUs" in remarks(rule, bad)[0]
    assert "its model is qwen" in remarks(rule, other)[0]


def test_a_label_spells_a_models_name_as_labels_can():
    """Their values have no slash."""
    rule = A100._replace(model="meta-llama/Llama-3.1-8B")

    for value in ("llama-3.1-8b", "Llama-3.1-8B", "meta-llama-Llama-3.1-8B"):
        assert remarks(rule, a_pod(labels={"model.aibrix.ai/name": value})) == ()


def test_a_pod_that_two_pools_want_is_the_first_ones():
    """The second pool says who has it; its other pods serve."""
    both, only = a_pod(), a_pod("only", "10.0.0.2")
    second = A100._replace(pool="second")

    found = assign([PoolLook(A100, [both]), PoolLook(second, [both, only])])

    assert found.urls == {"a100": ("http://10.0.0.1:8080",), "second": ("http://10.0.0.2:8080",)}
    assert found.remarks == (
        "pool second: vllm-0: left out: pool a100 comes first in the file and has it already",
    )


def test_pools_may_share_a_selector_and_differ_by_their_gpus():
    """Each takes its own, and nothing is said of what the other has."""
    pods = [a_pod(), a_pod("h", "10.0.0.2", product="NVIDIA-H100-80GB-HBM3")]

    found = assign([PoolLook(A100, pods), PoolLook(H100, pods)])

    assert found.urls == {"a100": ("http://10.0.0.1:8080",), "h100": ("http://10.0.0.2:8080",)}
    assert found.remarks == ()


def test_another_engine_is_told_and_used():
    """An image's name is a guess."""
    rule = A100._replace(engine="vllm")

    assert remarks(rule, a_pod()) == ()
    assert remarks(rule, a_pod(image="lmsysorg/sglang:v0.5")) == (
        "pool a100: vllm-0: used, but its engine seems to be sglang, the pool's is vllm",
    )


def a_slice(*endpoints, ports=(("http", 8000),)) -> SliceObject:
    """An EndpointSlice; endpoints: (address, conditions)."""
    document = {
        "metadata": {"name": "vllm-abc"},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [address], "conditions": conditions, "targetRef": {"name": f"p{address}"}}
            for address, conditions in endpoints
        ],
        "ports": [{"name": name, "port": number} for name, number in ports],
    }
    return msgspec.convert(document, SliceObject)


def test_endpoints_of_a_service_are_those_that_serve():
    """Unknown means ready, as the API says; what terminates gets nothing new."""
    rule = A100._replace(strict=False)
    part = a_slice(
        ("10.0.0.1", {}),
        ("10.0.0.2", {"ready": True, "serving": True, "terminating": False}),
        ("10.0.0.3", {"ready": False}),
        ("10.0.0.4", {"ready": True, "terminating": True}),
    )

    found = assign([PoolLook(rule, slices=[part, a_slice(("10.0.0.1", {}))])])

    assert found.urls == {"a100": ("http://10.0.0.1:8000", "http://10.0.0.2:8000")}


def test_the_port_of_a_service_must_be_clear():
    """With several and none named http, the remark has their names."""
    rule = A100._replace(strict=False)
    part = a_slice(("10.0.0.1", {}), ports=(("api", 1), ("metrics", 2)))

    assert assign([PoolLook(rule._replace(port="api"), slices=[part])]).urls["a100"] == (
        "http://10.0.0.1:1",
    )
    assert assign([PoolLook(rule, slices=[part])]).remarks == (
        "pool a100: p10.0.0.1: left out: `port` must say which port of the service (api, metrics)",
    )


@pytest.mark.parametrize(
    ("product", "gpu"),
    [
        ("NVIDIA-A100-SXM4-80GB", "A100-80G"),
        ("NVIDIA-A100-80GB-PCIe", "A100-80G"),
        ("NVIDIA-A100-SXM4-40GB", "A100-40G"),
        ("nvidia-tesla-a100", "A100-40G"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("nvidia-h100-mega-80gb", "H100"),
        ("NVIDIA-H200", "H200"),
        ("nvidia-h200-141gb", "H200"),
        ("NVIDIA-B200", "B200"),
        ("NVIDIA-L4", "L4"),
        ("NVIDIA-L40S", "L40S"),
        ("NVIDIA-A10G", "A10G"),
        ("Tesla-T4", "T4"),
        ("NVIDIA-GeForce-RTX-4090", "RTX-4090"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
    ],
)
def test_the_names_that_drivers_and_clouds_give_mean_one_type(product, gpu):
    """And none of the others that ship."""
    assert [one for one in TYPES if same_gpu(product, one, {})] == [gpu]


@pytest.mark.parametrize(
    "product", ["NVIDIA-H100-PCIe", "NVIDIA-H100-NVL", "NVIDIA-GH200-480GB", "NVIDIA-A10", "x"]
)
def test_a_gpu_near_another_is_not_that_one(product):
    """The card for PCIe has less bandwidth; a mapping says that it is meant."""
    assert not any(same_gpu(product, one, {}) for one in TYPES)
    assert same_gpu(product, "H100", {product: "H100"})


def test_parts_of_gpus_are_told_from_the_products_name():
    """As GPU feature discovery writes them."""
    assert part_of_gpu("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb") == "MIG-1g.10gb"
    assert part_of_gpu("NVIDIA-H100-80GB-HBM3-SHARED") == "SHARED"
    assert part_of_gpu("NVIDIA-H100-80GB-HBM3") is None
    assert base_url("::1", 80) == "http://[::1]:80"
