"""The manifests that ship do what they say: metrics exist, queries parse, rights suffice."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.load import load
from gateway.config.scale import KINDS
from gateway.telemetry.definitions import METRICS

FOLDER = Path(__file__).resolve().parents[3] / "configs" / "kubernetes"
METRIC = "cuvee_desired_backends"
SELECTOR = r'\{([a-z_]+(=|!=|=~)"[^"]*")(,[a-z_]+(=|!=|=~)"[^"]*")*\}'
QUERY = re.compile(rf"(max|sum)( by \([a-z_, ]+\))? ?\([a-z_]+({SELECTOR})?\)")


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of a file."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def queries() -> list[str]:
    """What Prometheus is asked, as it is asked."""
    rule = documents("prometheus-adapter.yaml")[0]["rules"]["external"][0]
    asked = rule["metricsQuery"].replace("<<.Series>>", METRIC)
    asked = asked.replace("<<.LabelMatchers>>", 'pool="a100"')
    trigger = documents("keda.yaml")[0]["spec"]["triggers"][0]["metadata"]["query"]
    return [asked, f"max({rule['seriesQuery']})", trigger]


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_every_metric_exists(path: Path):
    """And has the label that it is asked for by."""
    named = set(re.findall(r"cuvee_\w+", path.read_text()))
    defined = {metric.name: metric.labels for metric in METRICS}

    assert named <= set(defined)
    assert all(defined[name] == ("pool",) for name in named)
    assert len(list(yaml.safe_load_all(path.read_text()))) > 0


def test_queries_are_of_the_form_that_is_meant():
    """One number by one selector."""
    assert [query for query in queries() if not QUERY.fullmatch(query)] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian: prometheus)")
def test_queries_parse(tmp_path):
    """As Prometheus itself reads them."""
    rules = [{"record": f"a:b{n}", "expr": query} for n, query in enumerate(queries())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "3 rules found" in done.stdout


def test_the_hpa_has_as_many_replicas_as_the_metric_says():
    """An average of one for each replica; the name is what the adapter makes of the metric."""
    (hpa,) = documents("hpa.yaml")
    (metric,) = hpa["spec"]["metrics"]
    (rule,) = documents("prometheus-adapter.yaml")[0]["rules"]["external"]

    assert (hpa["apiVersion"], hpa["kind"]) == ("autoscaling/v2", "HorizontalPodAutoscaler")
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    assert metric["external"]["metric"]["name"] == rule["name"]["as"] == METRIC
    assert re.fullmatch(rule["name"]["matches"], METRIC)
    assert rule["resources"] == {"namespaced": False}
    for way in ("scaleUp", "scaleDown"):
        assert hpa["spec"]["behavior"][way]["stabilizationWindowSeconds"] == 0


def test_keda_does_not_take_silence_for_zero():
    """A missing metric is an error, in which KEDA falls back, and starts at anything above zero.
    https://keda.sh/docs/latest/scalers/prometheus/"""
    (scaled,) = documents("keda.yaml")
    (trigger,) = scaled["spec"]["triggers"]

    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert trigger["type"] == "prometheus"
    assert trigger["metricType"] == "AverageValue"  # the only type that fallback works with
    assert set(trigger["metadata"]) == {
        "serverAddress", "query", "threshold", "activationThreshold", "ignoreNullValues"
    }  # fmt: skip
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert (trigger["metadata"]["threshold"], scaled["spec"]["minReplicaCount"]) == ("1", 0)
    assert set(scaled["spec"]["fallback"]) == {"failureThreshold", "replicas", "behavior"}


def rules(name: str) -> set[tuple[str, str, tuple[str, ...]]]:
    """Group, resource and verbs of a Role."""
    role, binding = documents(name)
    assert (role["kind"], binding["kind"]) == ("Role", "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    return {
        (group, resource, tuple(rule["verbs"]))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_roles_have_what_is_used_and_no_more():
    """`get` and `patch` of the subresources of all kinds that are known, and of HTTPRoutes."""
    verbs = ("get", "patch")
    known = {
        (version.rpartition("/")[0], f"{plural}/scale", verbs)
        for version, plural in KINDS.values()
        if plural != "replicasets"  # which Deployments own
    }

    assert rules("role-scale.yaml") == known
    assert rules("role-weights.yaml") == {("gateway.networking.k8s.io", "httproutes", verbs)}


PAGE = Path(__file__).resolve().parents[3] / "docs" / "actuation.md"


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL))
def test_the_examples_of_the_page_can_be_used(tmp_path, block: str):
    """Each is a part of a configuration that is taken; at most, programs and keys are missing."""
    part = yaml.safe_load(block)
    known = {"model": "llama-3-8b", "profile": "llama-3-8b/A100-80G", "usd_per_hour": 1.0}
    pool = known | {"max_backends": 8, "discover": {"file": "found.yaml"}}
    pools = {"a100": pool | {"scale": part.get("scale")}, "h100": dict(pool)}
    pools["a100"] |= part.get("pools", {}).get("a100", {})
    (tmp_path / "found.yaml").write_text("[]")
    (tmp_path / "scaler.key").write_text("secret")
    raw = {
        "models": {"llama-3-8b": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": pools,
        "weights": part.get("weights", []),
    }
    path = tmp_path / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    warnings = load(path).warnings

    assert set(part) <= {"pools", "scale", "weights"}
    assert all("no such program" in line for line in warnings)
