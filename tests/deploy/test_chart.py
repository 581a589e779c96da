"""The chart and the plain manifests, as far as they can be read without Helm."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.load import load
from gateway.config.scale import KINDS
from gateway.telemetry.definitions import METRICS

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "cuvee"
EXAMPLES = sorted((ROOT / "deploy" / "helm" / "examples").glob("*.yaml"))
RULES = sorted((ROOT / "configs" / "prometheus").glob("*.yaml"))
PLAIN = ROOT / "deploy" / "kubernetes" / "cuvee.yaml"


def keys(values: Any, schema: Any, path: str = "") -> Iterator[str]:
    """Keys that only one of the two has, down to where the schema leaves them open."""
    known = schema.get("properties", {})
    if schema.get("additionalProperties") is False and isinstance(values, dict):
        yield from (f"{path}.{key}" for key in known.keys() ^ values.keys())
        for key in known.keys() & values.keys():
            yield from keys(values[key], known[key], f"{path}.{key}")


def test_every_value_is_in_the_schema():
    """And nothing else; `global` is Helm's own, and probes may have further keys."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    left = {key for key in keys(values, schema) if not re.search(r"Probe\.|\.claims$", key)}

    assert left == {".global"}


def test_the_chart_has_the_version_of_the_product():
    """Of the chart too: they are released together."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert version is not None
    assert chart["version"] == chart["appVersion"] == version[1]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_rules_are_those_that_ship(path: Path):
    """Helm reads no file outside of a chart: a copy, which `make manifests` makes."""
    assert (CHART / "files" / path.name).read_text() == path.read_text()


def test_the_chart_knows_the_kinds_that_are_scaled():
    """All that the gateway knows, by group and name."""
    text = (CHART / "templates" / "_rules.tpl").read_text()
    found = dict(re.findall(r'"(\w+)" "([a-z.0-9-]+/[a-z]+)"', text))
    groups = {
        kind: f"{version.split('/')[0]}/{plural}" for kind, (version, plural) in KINDS.items()
    }

    assert found == groups


@pytest.mark.parametrize("path", sorted(CHART.rglob("templates/*.yaml")), ids=lambda p: p.name)
def test_every_metric_exists(path: Path):
    """That a template asks for."""
    asked = set(re.findall(r"\b(cuvee_\w+|process_\w+)\{", path.read_text()))

    assert asked <= {metric.name for metric in METRICS}


def test_the_plain_manifests_have_a_configuration_that_can_be_used(tmp_path: Path):
    """That of the example, word by word."""
    things = {thing["kind"]: thing for thing in yaml.safe_load_all(PLAIN.read_text())}
    text = things["ConfigMap"]["data"]["cuvee.yaml"]
    (tmp_path / "cuvee.yaml").write_text(text)

    assert text.strip() == (CHART / "files" / "example.yaml").read_text().strip()
    assert {pool.name for pool in load(tmp_path / "cuvee.yaml").pools} == {"a10g", "a100", "h100"}
    assert things["Role"]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_configuration_of_an_example_can_be_used(path: Path, tmp_path: Path, monkeypatch):
    """With the files that its secrets have."""
    monkeypatch.setenv("REDIS_PASSWORD", "secret")
    config = yaml.safe_load(path.read_text())["config"]
    text = config if isinstance(config, str) else yaml.safe_dump(config)
    for name in re.findall(r"/etc/cuvee/secrets/\S+", text):
        file = tmp_path / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
    text = text.replace("/etc/cuvee", f"{tmp_path}/etc/cuvee")
    (tmp_path / "cuvee.yaml").write_text(text.replace("/var/lib/cuvee", str(tmp_path)))

    assert load(tmp_path / "cuvee.yaml").pools
