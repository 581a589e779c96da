"""What Helm makes of the chart: valid, safe, of one piece, and with no more rights than used."""

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "cuvee"
EXAMPLES = sorted((DEPLOY / "helm" / "examples").glob("*.yaml"))
CASES = [None, *EXAMPLES]
VERSIONS = ("1.30", "1.33", "1.37")  # of Kubernetes: the oldest that the chart takes, to the newest
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}  # Kubernetes has no schema of them
POOL: dict[str, Any] = {"model": "llama-3-8b", "profile": "llama-3-8b/H100", "backends": []}
CONFIG: dict[str, Any] = {
    "models": {"llama-3-8b": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
    "prices": "aws-2026-07",
    "pools": {"h100": POOL | {"discover": {"kubernetes": {"selector": "app=vllm"}}}},
}
SCALED = copy.deepcopy(CONFIG)
SCALED["pools"]["h100"] |= {"max_backends": 3, "scale": {"kubernetes": {"name": "vllm"}}}


def name_of(case: Path | None) -> str:
    return "default" if case is None else case.stem


every_case = pytest.mark.parametrize("case", CASES, ids=name_of)


def gateway(**settings):
    """The configuration with these keys of the section `gateway`."""
    return CONFIG | {"gateway": settings}


@every_case
def test_helm_finds_nothing_to_complain_of(case):
    """`helm lint --strict`, but for the icon that the chart has not."""
    values = {} if case is None else yaml.safe_load(case.read_text())
    report = helm_python.lint(CHART, values, strict=True)

    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@every_case
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(case, version, render):
    """By the schemas of Kubernetes, without a key that it does not know."""
    for thing in render(case).objects:
        if thing["kind"] not in CUSTOM:
            kubernetes_validate.validate(thing, version, strict=True)


@every_case
def test_the_configuration_is_one_that_the_gateway_takes(case, render, check, tmp_path):
    """`cuvee check` has no mistake to tell, with the files of the secrets in their places."""
    rendered = render(case)
    for mount in rendered.container["volumeMounts"]:
        folder = tmp_path / mount["mountPath"].lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for key in ("api-key", "password", "ca.crt"):
            (folder / key).write_text("secret")
    text = rendered.configuration
    for used in ("/etc/cuvee/secrets", "/etc/cuvee/redis", "/var/lib/cuvee"):
        text = text.replace(used, f"{tmp_path}{used}")
    path = tmp_path / "cuvee.yaml"
    path.write_text(text.replace("${REDIS_PASSWORD}", "x"))
    code, said = check(path)

    assert code == 0, said


@every_case
def test_every_pod_is_restricted(case, render):
    """What the level `restricted` of the Pod Security Standards wants, a root that is read-only,
    and bounds of memory.
    https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    for thing in render(case).objects:
        if thing["kind"] != "Deployment":
            continue
        spec = thing["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert "cpu" not in container["resources"]["limits"]
        for volume in spec["volumes"]:
            assert not {"hostPath", "nfs"} & set(volume)


def carries(labels: dict[str, str], selector: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@every_case
def test_objects_find_each_other(case, render):
    """Selectors have the labels of one kind of pod each, and ports and names exist."""
    rendered = render(case)
    objects = rendered.objects
    pods = {
        o["metadata"]["name"]: o["spec"]["template"] for o in objects if o["kind"] == "Deployment"
    }
    ports = {
        n: {p["name"] for c in pod["spec"]["containers"] for p in c["ports"]}
        for n, pod in pods.items()
    }

    def found(selector: dict[str, str]) -> str:
        (name,) = [n for n, pod in pods.items() if carries(pod["metadata"]["labels"], selector)]
        return str(name)

    for thing in objects:
        spec, kind = thing.get("spec", {}), thing["kind"]
        if kind in ("ClusterRole", "ClusterRoleBinding"):
            assert "namespace" not in thing["metadata"]
        else:
            assert thing["metadata"]["namespace"]
        if kind == "Deployment":
            assert found(spec["selector"]["matchLabels"]) == thing["metadata"]["name"]
            mounts = {
                m["name"] for c in spec["template"]["spec"]["containers"] for m in c["volumeMounts"]
            }
            assert mounts == {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
        elif kind == "Service":
            assert {port["targetPort"] for port in spec["ports"]} <= ports[found(spec["selector"])]
        elif kind == "NetworkPolicy":
            name = found(spec["podSelector"]["matchLabels"])
            assert {p["port"] for rule in spec["ingress"] for p in rule["ports"]} <= ports[name]
        elif kind == "PodDisruptionBudget":
            assert found(spec["selector"]["matchLabels"]) == "cuvee"
            assert len(set(spec) & {"minAvailable", "maxUnavailable"}) == 1
        elif kind in ("HorizontalPodAutoscaler", "ScaledObject"):
            assert spec["scaleTargetRef"]["name"] in pods
            assert "replicas" not in rendered.of("Deployment")["spec"]
        elif kind == "ServiceMonitor":
            services = [
                o for o in objects
                if o["kind"] == "Service"
                and carries(o["metadata"]["labels"], spec["selector"]["matchLabels"])
            ]  # fmt: skip
            assert [o["metadata"]["name"] for o in services] == ["cuvee-admin"]
            assert spec["endpoints"][0]["port"] in {p["name"] for p in services[0]["spec"]["ports"]}
        elif kind == "Ingress":
            back = spec["rules"][0]["http"]["paths"][0]["backend"]["service"]
            (port,) = rendered.of("Service")["spec"]["ports"]
            assert back == {"name": "cuvee", "port": {"name": port["name"]}}
        elif kind in ("RoleBinding", "ClusterRoleBinding"):
            (subject,) = thing["subjects"]
            assert subject == {"kind": "ServiceAccount", "name": "cuvee", "namespace": "models"}
            role = thing["roleRef"]["kind"]
            assert [
                o for o in objects
                if (o["kind"], o["metadata"]["name"]) == (role, thing["roleRef"]["name"])
                and o["metadata"].get("namespace") == thing["metadata"].get("namespace")
            ]  # fmt: skip


LOOK, CHANGE = ("list", "watch"), ("get", "patch")
RIGHTS: dict[str, set[Any]] = {
    "default": {("models", "", "pods", LOOK, ())},
    "minimal": set(),
    "mixed-gpus": {
        ("models", "", "pods", LOOK, ()),
        ("models", "", "pods", ("list", "patch"), ()),
        ("models", "leaderworkerset.x-k8s.io", "leaderworkersets/scale", CHANGE, ("vllm-h100",)),
        ("models", "apps", "deployments/scale", CHANGE, ("vllm-a100",)),
        ("cheap", "discovery.k8s.io", "endpointslices", LOOK, ()),
        ("cheap", "apps", "deployments/scale", CHANGE, ("vllm-a10g",)),
        (None, "", "nodes", ("get",), ()),
    },
    "cluster": {
        ("models", "", "pods", LOOK, ()),
        ("models", "inference.networking.k8s.io", "inferencepools", LOOK, ()),
        ("models", "inference.networking.x-k8s.io", "inferencepools", LOOK, ()),
        ("models", "apps", "statefulsets/scale", CHANGE, ("vllm-a100",)),
    },
    "keda": {("models", "gateway.networking.k8s.io", "httproutes", CHANGE, ("llm",))},
}


def rights(rendered):
    return {
        (
            o["metadata"].get("namespace"),
            group,
            resource,
            tuple(rule["verbs"]),
            tuple(rule.get("resourceNames", ())),
        )
        for o in rendered.objects
        if o["kind"] in ("Role", "ClusterRole")
        for rule in o["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@every_case
def test_rights_are_those_that_the_configuration_needs(case, render):
    """And no more; without any, the pod has no token."""
    rendered = render(case)

    assert rights(rendered) == RIGHTS[name_of(case)]
    token = rendered.pod["spec"]["automountServiceAccountToken"]
    assert token is bool(RIGHTS[name_of(case)])


@pytest.mark.parametrize(
    ("section", "right"),
    [
        ({"kind": "LeaderWorkerSet"}, ("leaderworkerset.x-k8s.io", "leaderworkersets/scale")),
        ({"kind": "StormService"}, ("orchestration.aibrix.ai", "stormservices/scale")),
        ({"kind": "RayClusterFleet"}, ("orchestration.aibrix.ai", "rayclusterfleets/scale")),
        ({"kind": "ReplicaSet"}, ("apps", "replicasets/scale")),
        (
            {"kind": "EngineFleet", "api_version": "example.com/v1", "plural": "enginefleets"},
            ("example.com", "enginefleets/scale"),
        ),
        ({"api_server": "https://elsewhere:6443"}, None),
    ],
)
def test_rights_of_kinds(section, right, render):
    """Each kind that can be scaled has its group; an API elsewhere has tokens of its own."""
    config = copy.deepcopy(SCALED)
    config["pools"]["h100"]["scale"]["kubernetes"] |= section
    of_scale = {
        (group, resource)
        for _, group, resource, verbs, _ in rights(render({"config": config}))
        if verbs == CHANGE
    }

    assert of_scale == (set() if right is None else {right})


def test_rules_of_your_own_are_added(render):
    """To those of a namespace, or alone."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    extra = {"models": [rule], "other": [rule]}
    found = rights(render({"rbac": {"extraRules": extra}}))

    assert found == RIGHTS["default"] | {
        ("models", "", "configmaps", ("get",), ()), ("other", "", "configmaps", ("get",), ())
    }  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 2},
        {"image": {"repo": "x"}},
        {"image": {"digest": "latest"}},
        {"replicaCount": "two"},
        {"service": {"port": 0}},
        {"service": {"type": "ExternalName"}},
        {"secrets": {"Engine Keys": "x"}},
        {"podLabels": {"a": 1}},
        {"preStopSeconds": -1},
        {"serviceMonitor": {"interval": 15}},
        {"keda": {"prometheus": {"requestsPerSecond": 500}}},
    ],
)  # fmt: skip
def test_the_schema_refuses(values, render):
    """Before anything is rendered."""
    with pytest.raises(helm_python.HelmValuesError):
        render(values)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"autoscaling": {"enabled": True}, "keda": {"enabled": True}}, "one of the two"),
        ({"replicaCount": 2, "config": SCALED}, r"config\.pools\.h100\.scale: several gateways"),
        ({"keda": {"enabled": True}, "config": SCALED}, "several gateways"),
        ({"redis": {"enabled": True}, "existingConfigMap": "own"}, "cannot write"),
        ({"redis": {"enabled": True}, "config": "models: {}\n"}, "redis://cuvee-redis:6379/0"),
        ({"config": "models: [\n"}, "config: not YAML"),
        ({"serviceMonitor": {"enabled": True}, "config": "models: {}\n"}, "nobody reaches"),
    ],
)
def test_what_does_not_fit_together_is_refused(values, why, render):
    """With what to do."""
    with pytest.raises(helm_python.HelmError, match=why):
        render(values)


def test_a_pod_has_time_to_drain(render):
    """What the gateway takes by its configuration, and more."""
    spec = render({"config": gateway(drain_s=90.5, drain_delay_s=0), "preStopSeconds": 20}).pod[
        "spec"
    ]
    own = render({"terminationGracePeriodSeconds": 7}).pod["spec"]

    assert spec["terminationGracePeriodSeconds"] == 126  # 20 + 0 + 90.5 + 15, rounded up
    assert render().pod["spec"]["terminationGracePeriodSeconds"] == 55
    assert own["terminationGracePeriodSeconds"] == 7


@pytest.mark.parametrize(
    ("section", "probe"),
    [
        ({}, {"httpGet": {"path": "/readyz", "port": "http", "scheme": "HTTP"}}),
        (
            {"tls": {"certificate": "c"}},
            {"httpGet": {"path": "/readyz", "port": "http", "scheme": "HTTPS"}},
        ),
        (
            {"tls": {"certificate": "c", "client_ca": "a"}},
            {"httpGet": {"path": "/readyz", "port": "admin", "scheme": "HTTP"}},
        ),
        (
            {"tls": {"client_ca": "a"}, "admin_tls": {"client_ca": "a"}},
            {"tcpSocket": {"port": "http"}},
        ),
    ],
)  # fmt: skip
def test_probes_ask_what_they_can_reach(section, probe, render):
    """Kubelets have no certificate."""
    asked = render({"config": gateway(**section)}).container["readinessProbe"]

    assert probe.items() <= asked.items()
    assert {"httpGet", "tcpSocket"} & set(asked) == set(probe)


def test_ports_are_those_of_the_configuration(render):
    """In the pod and in the services; the names stay."""
    rendered = render({"config": gateway(port=9000, admin_port=9001)})

    assert [(p["name"], p["containerPort"]) for p in rendered.container["ports"]] == [
        ("http", 9000), ("admin", 9001)
    ]  # fmt: skip


@every_case
def test_every_volume_has_one_source(case, render):
    """Helm joins mappings: a source of your own must not stand beside the default."""
    for volume in render(case).pod["spec"]["volumes"]:
        assert len(set(volume) - {"name"}) == 1, volume


def test_a_strategy_has_only_its_own_keys(render):
    """The same with what belongs to another strategy."""
    rendered = render({"strategy": {"type": "Recreate"}})

    assert rendered.of("Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_only_what_needs_a_restart_restarts(render):
    """The gateway itself follows the ConfigMap."""

    def mark(**settings):
        return render({"config": gateway(**settings)}).pod["metadata"]["annotations"]

    assert mark(drain_s=1) == mark(drain_s=2)
    assert mark(workers=1) != mark(workers=2)


def test_a_configuration_as_text_stays_as_it_is(render):
    """Comments and the order of pools."""
    text = "# mine\ngateway: {admin_host: 0.0.0.0}\nmodels: {}\npools: {b: {}, a: {}}\n"

    assert render({"config": text}).configuration == text


def test_a_configmap_of_your_own_is_mounted(render):
    """The chart writes none, and leaves the rights to you; the pod has a token for them."""
    rendered = render({"existingConfigMap": "own", "rbac": {"extraRules": {}}})
    volumes = {volume["name"]: volume for volume in rendered.pod["spec"]["volumes"]}

    assert "ConfigMap" not in rendered.kinds()
    assert volumes["config"]["configMap"] == {"name": "own"}
    assert rights(rendered) == set()
    assert rendered.pod["spec"]["automountServiceAccountToken"] is True


def test_a_large_number_stays_a_whole_one(render):
    """Helm has all numbers as floating-point ones."""
    config = gateway(max_body_bytes=134217728, queue_tokens=12345678)
    read = yaml.safe_load(render({"config": config}).configuration)["gateway"]

    assert (read["max_body_bytes"], read["queue_tokens"]) == (134217728, 12345678)
    assert all(isinstance(read[key], int) for key in ("max_body_bytes", "queue_tokens"))


def test_custom_objects_have_what_their_kinds_want(render):
    """Prometheus operator and KEDA: the keys that their versions have, all metadata of triggers
    text, and the alarms of configs/prometheus."""
    mixed = render(DEPLOY / "helm" / "examples" / "mixed-gpus.yaml")
    scaled = render(DEPLOY / "helm" / "examples" / "keda.yaml").of("ScaledObject")
    (endpoint,) = mixed.of("ServiceMonitor")["spec"]["endpoints"]
    cpu, prometheus = scaled["spec"]["triggers"]
    groups = [
        group
        for name in ("recording", "alerts")
        for group in yaml.safe_load((ROOT / "configs" / "prometheus" / f"{name}.yaml").read_text())[
            "groups"
        ]
    ]

    assert endpoint == {"port": "admin", "path": "/metrics", "scheme": "http", "interval": "15s"}
    assert mixed.of("PrometheusRule")["spec"] == {"groups": groups}
    assert mixed.of("PrometheusRule")["metadata"]["labels"]["release"] == "prometheus"
    assert (cpu["type"], cpu["metadata"]) == ("cpu", {"value": "60"})
    assert all(isinstance(value, str) for value in prometheus["metadata"].values())
    assert prometheus["metadata"]["ignoreNullValues"] == "false"


def test_redis_is_for_gateways_only(render):
    """Whoever writes there puts plans in force: a policy lets only gateways in, and the password
    comes from a Secret, to both sides."""
    rendered = render(DEPLOY / "helm" / "examples" / "cluster.yaml")
    (rule,) = rendered.of("NetworkPolicy", "cuvee-redis")["spec"]["ingress"]
    (source,) = rule["from"]
    read = yaml.safe_load(rendered.configuration)["gateway"]["cluster"]
    mounts = {m["mountPath"] for m in rendered.container["volumeMounts"]}

    assert source["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert read == {
        "redis": "redis://cuvee-redis:6379/0",
        "password_file": "/etc/cuvee/redis/password",
    }
    assert "/etc/cuvee/redis" in mounts


def test_the_values_of_the_page_render(render, check, tmp_path):
    """Those of docs/deployment.md, with a configuration that the gateway takes."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    (text,) = re.findall(r"```yaml\n(# my-values\.yaml\n.*?)```", page, re.DOTALL)
    rendered = render(yaml.safe_load(text))
    (tmp_path / "cuvee.yaml").write_text(rendered.configuration)
    code, said = check(tmp_path / "cuvee.yaml")

    assert code == 0, said
    assert rights(rendered) == RIGHTS["default"]
    assert rendered.container["image"].startswith("registry.example/cuvee:")


def test_notes_say_what_is_open(render):
    """After an installation: the example's configuration, several gateways alone, an open port."""
    assert "`config` is empty" in render().notes
    assert "share no Redis" in render({"replicaCount": 2}).notes
    assert "reaches the admin port" in render().notes
    assert "reaches the admin port" not in render({"networkPolicy": {"enabled": True}}).notes


def test_the_plain_manifests_are_those_of_the_chart():
    """`make manifests` makes them."""
    done = subprocess.run(
        [sys.executable, DEPLOY / "helm" / "render.py"], capture_output=True, text=True, check=True
    )

    assert done.stdout == (DEPLOY / "kubernetes" / "cuvee.yaml").read_text()


def test_the_plain_manifests_are_valid():
    """For Kubernetes, as they lie there."""
    things = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "cuvee.yaml").read_text()))

    assert len(things) >= 7
    for thing in things:
        for version in VERSIONS:
            kubernetes_validate.validate(thing, version, strict=True)


def test_the_recipe_of_the_image_is_sound():
    """As hadolint, which knows what goes wrong with Dockerfiles, reads it."""
    program = Path(sys.executable).parent / "hadolint"
    recipe = DEPLOY / "image" / "Dockerfile"
    done = subprocess.run([program, recipe], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")
