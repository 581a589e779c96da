"""The same source against a real kube-apiserver with etcd: `make test-kubernetes`.

Skipped where `CUVEE_KUBE_APISERVER` does not name the program.
"""

import json
import shutil

import pytest

from gateway.discovery.kubernetes.api import ApiServer
from gateway.discovery.kubernetes.pods import PoolRule
from gateway.discovery.kubernetes.reflector import WatchTiming
from gateway.discovery.kubernetes.source import KubernetesSource, PoolTarget
from tests.gateway.discovery.kubernetes.real_cluster import PROGRAM, RealCluster

pytestmark = pytest.mark.skipif(not PROGRAM, reason="make test-kubernetes")
RULE = PoolRule("a", "default/app=vllm", gpu="H100")
WATCH = PoolTarget(RULE, "default", selector="app=vllm")
TIMING = WatchTiming(
    pause_s=0.05, longest_pause_s=0.5, resync_s=600, watch_s=2, grace_s=5, settle_s=0.05
)
SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A cluster for all tests of this file."""
    for program in ("etcd", "openssl"):
        assert shutil.which(program), f"needs {program}"
    cluster = RealCluster(tmp_path_factory.mktemp("kubernetes"))
    yield cluster
    cluster.close()


@pytest.fixture
def account(real, tmp_path):
    """A server as a gateway's service account with its Role sees it; no pods are there."""
    for pod in json.loads(real.ask("GET", "/api/v1/namespaces/default/pods"))["items"]:
        real.delete_pod(pod["metadata"]["name"])
    real.grant()
    token_file = tmp_path / "account"
    token_file.write_text(real.new_account())
    yield ApiServer(real.url, token_file, real.ca_file)
    real.revoke()


def urls(*numbers, port=8000):
    """The URLs of pods by their numbers."""
    return {"a": tuple(f"http://10.1.0.{number}:{port}" for number in numbers)}


async def test_a_rollout(real, account, following, until):
    """Pods that come, get ready, and go."""
    real.put_pod(1)
    real.put_pod(9, app="other")
    async with following(KubernetesSource, [WATCH], TIMING, account) as listener:
        await until(lambda: listener.urls == urls(1))
        real.put_pod(2, ready="False")
        real.put_pod(3, labels={"nvidia.com/gpu.product": "NVIDIA-L4"})
        await until(lambda: any("NVIDIA-L4" in remark for remark in listener.remarks))
        assert listener.urls == urls(1)
        real.set_ready("vllm-2", 2)
        await until(lambda: listener.urls == urls(1, 2))
        real.delete_pod("vllm-1")
        await until(lambda: listener.urls == urls(2))

    assert listener.faults == []


async def test_gone_versions(real, account, following, until):
    """Watches end every two seconds here; what etcd compacted between is listed again."""
    real.put_pod(1)
    async with following(KubernetesSource, [WATCH], TIMING, account) as listener:
        await until(lambda: listener.urls == urls(1))
        looks = len(listener.founds)
        for number in range(3):
            path = "/api/v1/namespaces/default/configmaps"
            real.ask("POST", path, {"metadata": {"generateName": f"other-{number}-"}})
        real.compact()
        await until(lambda: len(listener.founds) >= looks + 3)
        real.put_pod(2)
        await until(lambda: listener.urls == urls(1, 2))

    assert listener.faults == []


async def test_a_token_that_is_not_valid_any_more(real, account, following, until):
    """The file has a new one some time later."""
    real.put_pod(1)
    async with following(KubernetesSource, [WATCH], TIMING, account) as listener:
        await until(lambda: listener.urls == urls(1))
        token = real.new_account()
        await until(lambda: any("does not accept the token (401)" in f for f in listener.faults))
        account.token_file.write_text(token)
        real.put_pod(2)
        await until(lambda: listener.urls == urls(1, 2))


async def test_a_role_that_is_taken_away(real, account, following, until):
    """The pods stay; when it is back, all goes on."""
    real.put_pod(1)
    async with following(KubernetesSource, [WATCH], TIMING, account) as listener:
        await until(lambda: listener.urls == urls(1))
        real.revoke()
        await until(lambda: listener.faults)
        assert "a Role must have" in listener.faults[-1]
        assert 'User "system:serviceaccount:default:gateway" cannot' in listener.faults[-1]
        real.put_pod(2)
        real.grant()
        await until(lambda: listener.urls == urls(1, 2))


async def test_a_server_that_starts_again(real, account, following, until):
    """Its watches break; the pods stay, and changes are found."""
    real.put_pod(1)
    async with following(KubernetesSource, [WATCH], TIMING, account) as listener:
        await until(lambda: listener.urls == urls(1))
        real.stop()
        await until(lambda: listener.faults)
        real.start()
        real.put_pod(2)
        await until(lambda: listener.urls == urls(1, 2))


async def test_an_inference_pool(real, account, following, until):
    """A custom resource: told when it is not known, followed when it is."""
    real.put_pod(1)
    watch = PoolTarget(RULE, "default", inference_pool="pool")
    group, plural = "inference.networking.k8s.io", "inferencepools"
    version = {"name": "v1", "served": True, "storage": True}
    definition = {
        "metadata": {
            "name": f"{plural}.{group}",
            # Names that end in k8s.io want it.
            "annotations": {"api-approved.kubernetes.io": "https://example.com"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": "inferencepool", "kind": "InferencePool"},
            "versions": [version | {"schema": {"openAPIV3Schema": SCHEMA}}],
        },
    }
    async with following(KubernetesSource, [watch], TIMING, account) as listener:
        await until(lambda: listener.faults)
        assert "does not know inference.networking.k8s.io/v1" in listener.faults[-1]
        real.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        await until(lambda: "does not exist" in listener.faults[-1])
        pool = {
            "apiVersion": f"{group}/v1",
            "kind": "InferencePool",
            "metadata": {"name": "pool"},
            "spec": {
                "selector": {"matchLabels": {"app": "vllm"}},
                "targetPorts": [{"number": 8000}, {"number": 8001}],
            },
        }
        real.ask("POST", f"/apis/{group}/v1/namespaces/default/{plural}", pool)
        both = ("http://10.1.0.1:8000", "http://10.1.0.1:8001")
        await until(lambda: listener.urls == {"a": both})
