"""A real kube-apiserver with etcd, for tests: `make test-kubernetes`."""

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

PROGRAM = os.environ.get("CUVEE_KUBE_APISERVER", "")
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
