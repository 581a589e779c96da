"""What a source tells of a cluster, whatever its API server does."""

import pytest
from aiohttp import web

from gateway.discovery.kubernetes.pods import PoolRule
from gateway.discovery.kubernetes.reflector import WatchTiming
from gateway.discovery.kubernetes.source import KubernetesSource, PoolTarget

PODS = "namespaces/default/pods"
POOLS = "namespaces/default/inferencepools"
SLICES = "namespaces/default/endpointslices"
RULE = PoolRule("a", "default/app=vllm", gpu="H100", strict=False)
WATCH = PoolTarget(RULE, "default", selector="app=vllm")
QUICK = WatchTiming(
    pause_s=0.01, longest_pause_s=0.05, resync_s=600, watch_s=1, grace_s=0.2, settle_s=0.01
)


def a_pod(number, *, app="vllm", ready="True", node="node-1", product=None):
    """A pod as the API has it; its address ends with the number."""
    return {
        "metadata": {"name": f"{app}-{number}", "labels": {"app": app}},
        "spec": {
            "nodeName": node,
            "nodeSelector": {"nvidia.com/gpu.product": product} if product else {},
            "containers": [{"name": "engine", "image": "vllm/vllm-openai"}],
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.0.0.{number}",
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def urls(*numbers, port=8000):
    """The URLs of pods by their numbers."""
    return {"a": tuple(f"http://10.0.0.{number}:{port}" for number in numbers)}


async def test_pods_come_and_go(cluster, following, until):
    """What the list had, and then every change, without another list."""
    cluster.put(PODS, a_pod(1))
    cluster.put(PODS, a_pod(9, app="other"))
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.urls == urls(1))
        cluster.put(PODS, a_pod(2, ready="False"))
        cluster.put(PODS, a_pod(3))
        await until(lambda: listener.urls == urls(1, 3))
        cluster.put(PODS, a_pod(2))
        await until(lambda: listener.urls == urls(1, 2, 3))
        cluster.delete(PODS, "vllm-1")
        cluster.put(PODS, a_pod(3, ready="False"))
        await until(lambda: listener.urls == urls(2))

    assert cluster.count("list") == 1
    assert listener.faults == []


async def test_a_watch_goes_on_where_the_last_one_ended(cluster, following, until):
    """By the version of the last bookmark: what was compacted meanwhile is not needed."""
    cluster.put(PODS, a_pod(1))
    async with following(KubernetesSource, [WATCH], QUICK) as listener:
        await until(lambda: cluster.count("watch") == 1)
        looks = len(listener.founds)
        cluster.bookmark(PODS)
        await until(lambda: len(listener.founds) > looks)  # it is a look that found the same
        cluster.oldest = cluster.version
        await until(lambda: cluster.count("watch") == 3)
        cluster.put(PODS, a_pod(2))
        await until(lambda: listener.urls == urls(1, 2))

    assert cluster.count("list") == 1
    assert listener.faults == []


@pytest.mark.parametrize("inside", [True, False], ids=["in the stream", "as a status"])
async def test_a_version_that_is_gone_is_listed_again(cluster, following, until, inside):
    """410 is no failure; what was missed is found."""
    cluster.gone_inside = inside
    cluster.put(PODS, a_pod(1))
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: cluster.streams and listener.urls == urls(1))
        cluster.deaf = True
        cluster.put(PODS, a_pod(2))
        cluster.compact()
        cluster.deaf = False
        cluster.cut()
        await until(lambda: listener.urls == urls(1, 2))

    assert cluster.count("list") == 2


async def test_a_server_that_always_says_gone_is_not_asked_without_a_pause(
    cluster, following, until
):
    """Its list is what there is; a failure that does not end is told to nobody as one."""
    cluster.put(PODS, a_pod(1))
    cluster.oldest = 10_000
    slow = QUICK._replace(pause_s=30, longest_pause_s=30)
    async with following(KubernetesSource, [WATCH], slow) as listener:
        await until(lambda: cluster.count("watch") == 2 and listener.urls == urls(1))

    assert cluster.count("list") == 2  # the third would come only after the pause


async def test_a_token_that_was_replaced_is_read_again(cluster, following, until):
    """Tokens of service accounts last an hour; the file has the next one before."""
    cluster.put(PODS, a_pod(1))
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.urls == urls(1) and cluster.streams)
        cluster.tokens = {"second"}
        cluster.cut()
        await until(lambda: any("does not accept the token (401)" in f for f in listener.faults))
        cluster.token_file.write_text("second\n")
        cluster.put(PODS, a_pod(2))
        await until(lambda: listener.urls == urls(1, 2))


async def test_what_is_not_allowed_is_told_with_the_rule_that_is_missing(cluster, following, until):
    """Verb, resource and namespace; when the Role has it, all goes on."""
    cluster.denied = {("list", "pods")}
    cluster.put(PODS, a_pod(1))
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.faults)
        assert listener.faults[0].startswith(
            "may not list pods in namespace default: a Role must have "
            '{apiGroups: [""], resources: [pods], verbs: [get, list, watch]}; pods is forbidden'
        )
        assert listener.founds == []
        cluster.denied = set()
        await until(lambda: listener.urls == urls(1))


async def test_without_the_right_to_watch_there_are_lists(cluster, following, until):
    """Changes are found late, and the missing right is told."""
    cluster.denied = {("watch", "pods")}
    cluster.put(PODS, a_pod(1))
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.faults)
        cluster.put(PODS, a_pod(2))
        await until(lambda: cluster.count("list") > 2)
        assert listener.faults[0].startswith("may not watch pods in namespace default")
        cluster.denied = set()
        await until(lambda: listener.urls == urls(1, 2))


async def test_a_pool_that_cannot_be_seen_keeps_what_it_has(cluster, following, until):
    """The others are followed all the same, and a pod stays its first pool's."""
    cluster.put(PODS, a_pod(1))
    cluster.put(SLICES, a_slice(1, 2))
    second = PoolTarget(RULE._replace(pool="b"), "default", service="vllm")
    async with following(KubernetesSource, [WATCH, second]) as listener:
        await until(lambda: listener.urls == urls(1) | {"b": ("http://10.0.0.2:8000",)})
        await until(lambda: len(cluster.streams) == 2)
        cluster.denied = {("watch", "pods"), ("list", "pods")}
        cluster.cut()
        await until(lambda: any("may not" in remark for remark in listener.remarks))
        cluster.put(SLICES, a_slice(1, 2, 3))
        expected = {"b": ("http://10.0.0.2:8000", "http://10.0.0.3:8000")}
        await until(lambda: listener.urls == expected)
        assert any("may not" in remark for remark in listener.remarks)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_in_trouble_is_asked_again(cluster, following, until, status):
    """After a pause; the line has the status."""
    cluster.failing = [status] * 3
    cluster.put(PODS, a_pod(1))
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.urls == urls(1))

    assert f"cannot list pods in namespace default: {status}" in listener.faults[0]


async def test_a_watch_that_breaks_goes_on_from_its_last_event(cluster, following, until):
    """And needs no list."""
    cluster.put(PODS, a_pod(1))
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.urls == urls(1) and cluster.streams)
        cluster.cut()
        await until(lambda: cluster.count("watch") == 2)
        cluster.put(PODS, a_pod(2))
        await until(lambda: listener.urls == urls(1, 2))

    assert cluster.count("list") == 1


async def test_a_watch_that_is_back_is_well_before_anything_changes(cluster, following, until):
    """A quiet cluster is no fault: the head of the answer is the news."""
    cluster.put(PODS, a_pod(1))
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.urls == urls(1) and cluster.streams)
        cluster.failing = [503] * 3
        cluster.cut()
        await until(lambda: any("503" in fault for fault in listener.faults))
        looks = len(listener.founds)
        await until(lambda: len(listener.founds) > looks)

    assert cluster.count("list") == 1


async def test_a_watch_that_hears_nothing_is_cut(cluster, following, until):
    """A server that is gone without a word would be believed for ever."""
    cluster.put(PODS, a_pod(1))
    cluster.dead = True
    short = QUICK._replace(grace_s=-0.5)  # before the double ends it itself
    async with following(KubernetesSource, [WATCH], short) as listener:
        await until(lambda: cluster.streams)
        cluster.put(PODS, a_pod(2))
        await until(lambda: listener.faults)
        cluster.dead = False
        await until(lambda: listener.urls == urls(1, 2))

    assert "no end of the answer within 0.5 s" in listener.faults[0]


async def test_a_list_is_repeated_now_and_then(cluster, following, until):
    """What a watch did not tell is found at the next one."""
    cluster.put(PODS, a_pod(1))
    cluster.deaf = True
    async with following(KubernetesSource, [WATCH], QUICK._replace(resync_s=0.5)) as listener:
        await until(lambda: listener.urls == urls(1) and cluster.streams)
        cluster.put(PODS, a_pod(2))
        cluster.events.clear()
        await until(lambda: listener.urls == urls(1, 2))

    assert cluster.count("list") >= 2


async def test_long_lists_come_in_pages(cluster, following, until):
    """All of them make one list; one that is too old in the middle begins anew."""
    cluster.page = 2
    for number in range(1, 6):
        cluster.put(PODS, a_pod(number))
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.urls == urls(1, 2, 3, 4, 5))

    assert cluster.count("list") == 3


async def test_an_api_server_that_is_not_there_is_told(cluster, following, until):
    """With its URL; nothing is found, which is not the same as nobody."""
    cluster.url = "http://127.0.0.1:1"
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.faults)

    assert "cannot list pods in namespace default: http://127.0.0.1:1: " in listener.faults[0]
    assert listener.founds == []


async def test_an_answer_that_is_none_is_told(cluster, following, until):
    """As of a proxy in between that greets."""
    listed, cluster.list = cluster.list, lambda *_: web.Response(text="<html>")
    async with following(KubernetesSource, [WATCH]) as listener:
        await until(lambda: listener.faults)
        cluster.list = listed
        await until(lambda: listener.urls is not None)

    assert "not what the API answers" in listener.faults[0]


def a_slice(*numbers):
    """The EndpointSlice of a service."""
    return {
        "metadata": {"name": "vllm-x", "labels": {"kubernetes.io/service-name": "vllm"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8000}],
        "endpoints": [
            {"addresses": [f"10.0.0.{n}"], "conditions": {"ready": True}, "nodeName": "node-1"}
            for n in numbers
        ],
    }


async def test_the_endpoints_of_a_service_are_followed(cluster, following, until):
    """By its EndpointSlices."""
    watch = PoolTarget(RULE, "default", service="vllm")
    cluster.put(SLICES, a_slice(1))
    async with following(KubernetesSource, [watch]) as listener:
        await until(lambda: listener.urls == urls(1))
        cluster.put(SLICES, a_slice(1, 2))
        await until(lambda: listener.urls == urls(1, 2))
        cluster.delete(SLICES, "vllm-x")
        await until(lambda: listener.urls == urls())


def a_pool(app, *ports):
    """An InferencePool."""
    spec = {
        "selector": {"matchLabels": {"app": app}},
        "targetPorts": [{"number": p} for p in ports],
    }
    return {"metadata": {"name": "pool"}, "spec": spec}


async def test_the_pods_of_an_inference_pool_are_followed(cluster, following, until):
    """By its selector and ports, also when these change; when it is gone, its pods stay."""
    watch = PoolTarget(RULE, "default", inference_pool="pool")
    cluster.put(PODS, a_pod(1))
    cluster.put(PODS, a_pod(7, app="new"))
    async with following(KubernetesSource, [watch]) as listener:
        await until(lambda: listener.faults)
        assert listener.faults[-1] == "pool a: InferencePool default/pool does not exist"
        cluster.put(POOLS, a_pool("vllm", 8000))
        await until(lambda: listener.urls == urls(1))
        cluster.put(PODS, a_pod(2))
        await until(lambda: listener.urls == urls(1, 2))
        cluster.put(POOLS, a_pool("new", 9000))
        await until(lambda: listener.urls == urls(7, port=9000))
        told = len(listener.faults)
        cluster.delete(POOLS, "pool")
        await until(lambda: len(listener.faults) > told)

    assert listener.urls == urls(7, port=9000)


async def test_the_older_inference_pool_is_followed_too(cluster, following, until):
    """Its selector is the labels themselves, and it has one port."""
    rule = RULE._replace(scheme="https")
    watch = PoolTarget(rule, "default", inference_pool="pool", inference_version="v1alpha2")
    cluster.put(PODS, a_pod(1))
    spec = {"selector": {"app": "vllm"}, "targetPortNumber": 8000}
    cluster.put(POOLS, {"metadata": {"name": "pool"}, "spec": spec})
    async with following(KubernetesSource, [watch]) as listener:
        await until(lambda: listener.urls)

    expected = {
        pool: tuple(u.replace("http:", "https:") for u in us) for pool, us in urls(1).items()
    }
    assert listener.urls == expected


async def test_a_cluster_without_inference_pools_is_told(cluster, following, until):
    """The custom resource is not installed."""
    cluster.unknown = {"inferencepools"}
    watch = PoolTarget(RULE, "default", inference_pool="pool")
    async with following(KubernetesSource, [watch]) as listener:
        await until(lambda: listener.faults)

    assert "does not know inference.networking.k8s.io/v1 inferencepools" in listener.faults[0]


async def test_nodes_tell_gpus_where_they_may_be_read(cluster, following, until):
    """Each node is asked for once."""
    watch = WATCH._replace(rule=RULE._replace(strict=True), nodes=True)
    for number, product in ((1, "NVIDIA-H100-80GB-HBM3"), (2, "NVIDIA-L4")):
        labels = {"nvidia.com/gpu.product": product}
        cluster.put("nodes", {"metadata": {"name": f"node-{number}", "labels": labels}})
        cluster.put(PODS, a_pod(number, node=f"node-{number}"))
    async with following(KubernetesSource, [watch]) as listener:
        await until(lambda: listener.urls == urls(1))
        cluster.put(PODS, a_pod(3, node="node-1"))
        await until(lambda: listener.urls == urls(1, 3))

    assert cluster.count("get", "nodes") == 2
    assert listener.remarks == (
        "pool a: vllm-2: left out: its GPU is NVIDIA-L4, the profile's is H100",
    )


async def test_nodes_that_may_not_be_read_are_told(cluster, following, until):
    """The pods serve, on trust."""
    cluster.denied = {("get", "nodes")}
    cluster.put(PODS, a_pod(1))
    watch = WATCH._replace(rule=RULE._replace(strict=True), nodes=True)
    async with following(KubernetesSource, [watch]) as listener:
        await until(lambda: listener.urls == urls(1))

    assert listener.remarks[0].startswith("may not get nodes: a ClusterRole must have")
    assert "used as H100 on trust" in listener.remarks[1]
