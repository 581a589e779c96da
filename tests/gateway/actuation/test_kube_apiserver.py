"""Wishes and weights against a real kube-apiserver with etcd: `make test-kubernetes`.

Skipped where `CUVEE_KUBE_APISERVER` does not name the program.
"""

import json
import shutil
from typing import Any

import msgspec
import pytest

from gateway.actuation.actuator import ActuationError
from gateway.actuation.http_route import HttpRouteObject, weight_changes
from gateway.actuation.kube_objects import JSON_PATCH, KubeObjects, ScaleObject
from gateway.actuation.kubernetes_scale import KubernetesScale
from gateway.actuation.weights import RouteWriter
from gateway.config.scale_schema import KubernetesScaleSection
from gateway.config.weights_schema import WeightsSection
from gateway.discovery.kubernetes.api import ApiRefusal
from gateway.telemetry.loops import Loops
from tests.gateway.discovery.kubernetes.conftest import eventually
from tests.gateway.discovery.kubernetes.real_cluster import PROGRAM, RealCluster

pytestmark = pytest.mark.skipif(not PROGRAM, reason="make test-kubernetes")
APPS = "/apis/apps/v1/namespaces/default"
PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "patch"]}
COST = "controller.kubernetes.io/pod-deletion-cost"
LABELS = {"app": "vllm"}
MERGE = "application/merge-patch+json"


def rule(group: str, resource: str) -> dict[str, Any]:
    """What a Role must have, and no more."""
    return {"apiGroups": [group], "resources": [f"{resource}/scale"], "verbs": ["get", "patch"]}


RULES = [rule("apps", "deployments"), rule("apps", "statefulsets")]
RULES += [rule("leaderworkerset.x-k8s.io", "leaderworkersets")]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A cluster for all tests of this file, with a Deployment, a StatefulSet and an LWS."""
    for program in ("etcd", "openssl"):
        assert shutil.which(program), f"needs {program}"
    cluster = RealCluster(tmp_path_factory.mktemp("kubernetes"))
    container = {"name": "engine", "image": "vllm/vllm-openai"}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template}
    for plural, more in (("deployments", {}), ("statefulsets", {"serviceName": "vllm"})):
        body = {"metadata": {"name": "vllm"}, "spec": spec | more}
        cluster.ask("POST", f"{APPS}/{plural}", body)
    define(cluster, "leaderworkerset.x-k8s.io", "LeaderWorkerSet", scale=True)
    body = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "vllm"},
        "spec": {"replicas": 1},
    }
    create(cluster, "leaderworkerset.x-k8s.io", "leaderworkersets", body)
    define(cluster, "gateway.networking.k8s.io", "HTTPRoute")
    yield cluster
    cluster.close()


def define(cluster: RealCluster, group: str, kind: str, *, scale: bool = False) -> None:
    """Install a custom resource."""
    plural = f"{kind.lower()}s"
    schema: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if scale:
        count: dict[str, Any] = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
        count["x-kubernetes-preserve-unknown-fields"] = True
        schema["properties"] = {"spec": count, "status": count}
    version: dict[str, Any] = {"name": "v1", "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": schema}
    if scale:
        paths = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
        version["subresources"] = {"status": {}, "scale": paths}
    body = {
        "metadata": {
            "name": f"{plural}.{group}",
            # Names that end in k8s.io want it.
            "annotations": {"api-approved.kubernetes.io": "https://example.com"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [version],
        },
    }
    cluster.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)


def create(cluster: RealCluster, group: str, plural: str, body: dict[str, Any]) -> None:
    """Make an object of a custom resource, once that is served."""
    for attempt in range(600):
        try:
            cluster.ask("POST", f"/apis/{group}/v1/namespaces/default/{plural}", body)
        except OSError:  # urllib's HTTPError is one: 404 until it is served
            if attempt == 599:
                raise
            cluster.ask("GET", "/readyz")
        else:
            return


@pytest.fixture
def scale(real, tmp_path):
    """Makes actuators with the token of a gateway's service account, which has the Role."""
    real.grant(RULES)
    (tmp_path / "token").write_text(real.new_account())

    def make(**keys) -> KubernetesScale:
        known = {"name": "vllm", "namespace": "default", "api_server": real.url}
        known |= {"token_file": "token", "ca_file": str(real.ca_file)}
        section = msgspec.convert(known | keys, KubernetesScaleSection)
        return KubernetesScale(section, tmp_path, give_up_s=5.0)

    yield make
    real.revoke()


def replicas(real: RealCluster, path: str) -> int:
    """What an object has."""
    count: int = json.loads(real.ask("GET", path))["spec"]["replicas"]
    return count


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", f"{APPS}/deployments/vllm"),
        ("StatefulSet", f"{APPS}/statefulsets/vllm"),
        (
            "LeaderWorkerSet",
            "/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets/vllm",
        ),
    ],
)
async def test_replicas_are_set(real, scale, order, kind, path):
    """With `get` and `patch` of the subresource alone; zero is a number too."""
    actuator = scale(kind=kind)
    for count in (4, 0, 0, 2):
        await actuator.apply(order(count, key=f"k-{count}"))
        assert replicas(real, path) == count


async def test_a_role_that_is_missing(real, scale, order):
    """Is told in the form of its rule; the object stays."""
    real.ask("PATCH", f"{APPS}/deployments/vllm", {"spec": {"replicas": 1}}, MERGE)
    real.revoke()
    with pytest.raises(ActuationError, match=r"must have \{apiGroups: \[apps\]") as caught:
        await scale().apply(order())

    assert caught.value.final
    assert 'User "system:serviceaccount:default:gateway" cannot get' in str(caught.value)
    real.grant([rule("apps", "deployments") | {"verbs": ["get"]}])
    with pytest.raises(ActuationError, match='cannot patch resource "deployments/scale"'):
        await scale().apply(order())
    assert replicas(real, f"{APPS}/deployments/vllm") == 1


async def test_a_change_that_was_made_for_another_version(real, scale, order, tmp_path):
    """Is refused with 409, and made anew by the actuator."""
    actuator = scale()
    keys = {"name": "vllm", "api_server": real.url, "token_file": "token"}
    section = msgspec.convert(keys | {"ca_file": str(real.ca_file)}, KubernetesScaleSection)
    objects = KubeObjects(section, tmp_path)
    target = f"{APPS}/deployments/vllm/scale"
    found = await objects.read(target, ScaleObject)
    real.ask("PATCH", f"{APPS}/deployments/vllm", {"metadata": {"labels": {"a": "b"}}}, MERGE)
    change = {
        "metadata": {"resourceVersion": found.metadata.resource_version},
        "spec": {"replicas": 9},
    }
    with pytest.raises(ApiRefusal) as caught:
        await objects.patch(target, change, ScaleObject)

    assert caught.value.status == 409
    await actuator.apply(order(7))
    assert replicas(real, f"{APPS}/deployments/vllm") == 7


async def test_what_is_not_there(scale, order):
    """A name, a resource, and one without the subresource."""
    for keys in (
        {"name": "other"},
        {"kind": "X", "api_version": "x.io/v1", "plural": "xs"},
    ):
        with pytest.raises(ActuationError) as caught:
            await scale(**keys).apply(order())
        assert caught.value.final, str(caught.value)


async def test_weights_are_written(real, tmp_path):
    """With `get` and `patch` of HTTPRoutes alone; a change for another version is refused, and one
    whose entry has another name too."""
    group = "gateway.networking.k8s.io"
    path = f"/apis/{group}/v1/namespaces/default/httproutes"
    refs = [{"name": "a", "port": 8000}, {"name": "b", "weight": 1}, {"name": "c", "weight": 7}]
    body = {
        "apiVersion": f"{group}/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "llm"},
        "spec": {"rules": [{"backendRefs": refs}]},
    }
    create(real, group, "httproutes", body)
    real.grant([{"apiGroups": [group], "resources": ["httproutes"], "verbs": ["get", "patch"]}])
    (tmp_path / "token").write_text(real.new_account())
    keys = {"http_route": "llm", "namespace": "default", "refs": {"x": "a", "y": "b"}}
    keys |= {"api_server": real.url, "token_file": "token", "ca_file": str(real.ca_file)}
    section = msgspec.convert(keys, WeightsSection)
    writer = RouteWriter(section, tmp_path, Loops(), retry_s=0.01)
    writer.wish({"x": 0.25, "y": 0.75})

    def now() -> list[dict[str, Any]]:
        found: dict[str, Any] = json.loads(real.ask("GET", f"{path}/llm"))
        refs: list[dict[str, Any]] = found["spec"]["rules"][0]["backendRefs"]
        return refs

    await eventually(lambda: [ref.get("weight") for ref in now()] == [250, 750, 7])
    await writer.aclose()
    assert [ref["name"] for ref in now()] == ["a", "b", "c"]
    assert now()[0]["port"] == 8000

    objects = KubeObjects(section, tmp_path)
    route = await objects.read(f"{path}/llm", HttpRouteObject)
    changes = weight_changes(route, {"a": 0.5, "b": 0.5}, 10)
    other = [changes[0], changes[1] | {"value": "z"}, *changes[2:]]
    with pytest.raises(ApiRefusal) as caught:
        await objects.patch(f"{path}/llm", other, HttpRouteObject, JSON_PATCH)
    assert caught.value.status == 422
    await objects.patch(f"{path}/llm", changes, HttpRouteObject, JSON_PATCH)
    with pytest.raises(ApiRefusal) as caught:
        await objects.patch(f"{path}/llm", changes, HttpRouteObject, JSON_PATCH)
    assert caught.value.status == 409
    real.revoke()


async def test_pods_are_marked(real, scale, order):
    """By their address, with the annotation that ReplicaSets follow."""
    for number in (1, 2):
        real.put_pod(number)
    real.revoke()
    real.grant([*RULES, PODS])
    actuator = scale(mark_leaving=True)
    await actuator.apply(order(1, 2, leaving=("http://10.1.0.2:8000",)))
    pods = json.loads(real.ask("GET", "/api/v1/namespaces/default/pods"))["items"]

    costs = {p["metadata"]["name"]: p["metadata"].get("annotations", {}).get(COST) for p in pods}
    assert costs == {"vllm-1": None, "vllm-2": "-100"}
