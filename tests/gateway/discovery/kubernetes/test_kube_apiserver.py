"""The same source against a real kube-apiserver with etcd: `make test-kubernetes`.

Skipped where `CUVEE_KUBE_APISERVER` does not name the program.
"""

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.discovery.kubernetes.api import ApiServer
from gateway.discovery.kubernetes.pods import PoolRule
from gateway.discovery.kubernetes.reflector import WatchTiming
from gateway.discovery.kubernetes.source import KubernetesSource, PoolTarget

PROGRAM = os.environ.get("CUVEE_KUBE_APISERVER", "")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="make test-kubernetes")
RULE = PoolRule("a", "default/app=vllm", gpu="H100")
WATCH = PoolTarget(RULE, "default", selector="app=vllm")
TIMING = WatchTiming(
    pause_s=0.05, longest_pause_s=0.5, resync_s=600, watch_s=2, grace_s=5, settle_s=0.05
)
START_S = 60
ADMIN = "admin-token"
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["inference.networking.k8s.io"],
        "resources": ["inferencepools"],
        "verbs": ["get", "list", "watch"],
    },
]
SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def a_port():
    """A port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class RealCluster:
    """etcd and kube-apiserver as child processes, without kubelets: pods are what the API is told
    of them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.etcd, peer = (f"http://127.0.0.1:{a_port()}" for _ in range(2))
        self.port = a_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca_file = folder / "certificates" / "apiserver.crt"
        key = folder / "accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text(f"{ADMIN},admin,admin,system:masters\n")
        self.store = self._start(
            "etcd",
            *("--data-dir", folder / "etcd", "--listen-client-urls", self.etcd),
            *("--advertise-client-urls", self.etcd, "--listen-peer-urls", peer),
            *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
        )
        self._arguments = (
            PROGRAM,
            f"--etcd-servers={self.etcd}",
            f"--cert-dir={folder / 'certificates'}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--service-account-issuer=https://cluster",
            "--api-audiences=https://cluster",
            f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
            "--watch-cache=false",  # then it is etcd that says what is gone
            "--etcd-compaction-interval=0",
        )
        self.start()

    def _start(self, *arguments):
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(arguments, stdout=log, stderr=log)

    def start(self):
        """Start the API server and wait until it is ready."""
        self.server = self._start(*self._arguments)
        due_s = time.monotonic() + START_S
        while True:
            try:
                if self.ask("GET", "/readyz") == b"ok":
                    return
            except (OSError, urllib.error.URLError):
                if time.monotonic() > due_s or self.server.poll() is not None:
                    pytest.fail((self.folder / "log").read_text()[-2000:])
                time.sleep(0.1)

    def stop(self):
        """Kill the API server."""
        self.server.kill()
        self.server.wait()

    def close(self):
        """End both."""
        self.stop()
        self.store.kill()
        self.store.wait()

    def ask(self, method, path, body=None, kind="application/json"):
        """A request of the administrator."""
        context = ssl.create_default_context(cafile=self.ca_file)
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {ADMIN}", "content-type": kind},
        )
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.read()

    def put_pod(self, number, *, app="vllm", ready="True", labels=H100):
        """Make a pod that runs."""
        name, path = f"{app}-{number}", "/api/v1/namespaces/default/pods"
        container = {
            "name": "engine",
            "image": "vllm/vllm-openai",
            "ports": [{"name": "http", "containerPort": 8000}],
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
        }
        pod = {
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"containers": [container], "nodeSelector": labels},
        }
        self.ask("POST", path, pod)
        self.set_ready(name, number, ready)

    def set_ready(self, name, number, ready="True"):
        """Say what a kubelet would."""
        address = f"10.1.0.{number}"
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": ready}],
        }
        path = f"/api/v1/namespaces/default/pods/{name}/status"
        self.ask("PATCH", path, {"status": status}, "application/merge-patch+json")

    def delete_pod(self, name):
        """Delete a pod at once."""
        path = f"/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0"
        self.ask("DELETE", path)

    def grant(self, rules=RULES):
        """Give the gateway's service account a Role."""
        root = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        role = {"metadata": {"name": "gateway"}, "rules": rules}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gateway"}
        subject = {"kind": "ServiceAccount", "name": "gateway", "namespace": "default"}
        binding = {"metadata": {"name": "gateway"}, "roleRef": reference, "subjects": [subject]}
        self.ask("POST", f"{root}/roles", role)
        self.ask("POST", f"{root}/rolebindings", binding)

    def revoke(self):
        """Take the Role away."""
        root = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        self.ask("DELETE", f"{root}/rolebindings/gateway")
        self.ask("DELETE", f"{root}/roles/gateway")

    def new_account(self):
        """The token of a new service account `gateway`; that of an older one is not valid then."""
        root = "/api/v1/namespaces/default/serviceaccounts"
        with suppress(urllib.error.HTTPError):  # there is none yet
            self.ask("DELETE", f"{root}/gateway")
        self.ask("POST", root, {"metadata": {"name": "gateway"}})
        request = {"spec": {"audiences": ["https://cluster"], "expirationSeconds": 600}}
        answer = json.loads(self.ask("POST", f"{root}/gateway/token", request))
        return answer["status"]["token"]

    def compact(self):
        """Have etcd forget all that was."""
        answer = json.loads(self.ask("GET", "/api/v1/namespaces/default/configmaps"))
        version = answer["metadata"]["resourceVersion"]
        body = json.dumps({"revision": version, "physical": True}).encode()
        with urllib.request.urlopen(f"{self.etcd}/v3/kv/compaction", body, timeout=10) as done:
            done.read()


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
