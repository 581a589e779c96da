"""The rules, alarms and the dashboard that ship: each asks for what exists, each alarm rings when
it must and has a runbook."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.telemetry.definitions import METRICS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "prometheus"
CASES = ROOT / "tests" / "alarm_cases.yaml"
RULES = [
    rule
    for name in ("alerts", "recording")
    for group in yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ALARMS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
DASHBOARD = json.loads((ROOT / "configs" / "grafana" / "cuvee.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
KNOWN = {metric.name: metric for metric in METRICS}
SUFFIXES = ("_bucket", "_sum", "_count")
TARGET_LABELS = {"instance", "job"}  # which Prometheus adds

prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool (Debian: prometheus)"
)


def queries():
    """All PromQL of the dashboard."""
    yield from (target["expr"] for panel in PANELS for target in panel["targets"])
    yield from (note["expr"] for note in DASHBOARD["annotations"]["list"])


def unknown(query):
    """Metrics and labels of a query that no gateway shows."""
    selectors = re.findall(r"\b((?:cuvee|process)_\w+)(?![\w:])(\{[^}]*\})?", query)
    labels_there, wrong = {*TARGET_LABELS, "le"}, []
    for name, matchers in selectors:
        if re.search(rf":{name}|{name}:", query):  # a part of a recorded name
            continue
        base = name if name in KNOWN else re.sub("|".join(SUFFIXES) + "$", "", name)
        if base not in KNOWN:
            wrong.append(name)
            continue
        own = {*KNOWN[base].labels, *TARGET_LABELS}
        wrong += [
            f"{name}:{one}" for one in re.findall(r"(\w+)\s*[=!]", matchers) if one not in own
        ]
        labels_there |= own
    recorded = re.findall(r"\b\w+:\w+(?::\w+)?\b", re.sub(r"\{[^}]*\}|\"[^\"]*\"", "", query))
    wrong += [name for name in recorded if ":" in name and name not in RECORDED]
    if not recorded:
        grouped = re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", query)
        used = {label.strip() for group in grouped for label in group.split(",") if label.strip()}
        wrong += sorted(used - labels_there)
    return wrong


def filled(query):
    """A query of the dashboard with values in place of its variables."""
    query = query.replace("$__rate_interval", "5m").replace("$objective", "0.99")
    return re.sub(r"\$\w+", ".*", query)


def checked(expressions, folder):
    """Have promtool parse queries; return what it says of wrong ones."""
    rules = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(expressions)]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_there_are_ten_alarms_with_names_of_their_own():
    """As many as a person can know."""
    assert len({rule["alert"] for rule in ALARMS}) == len(ALARMS) == 10


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_metrics_that_exist_by_labels_that_they_have(rule):
    """A metric that was renamed would keep its alarm silent for ever."""
    assert unknown(rule["expr"]) == []


def test_a_metric_or_a_label_that_is_missing_would_be_found():
    """The test above is one."""
    assert unknown("rate(cuvee_renamed_total[5m])") == ["cuvee_renamed_total"]
    assert unknown('cuvee_load{worker="0"}') == ["cuvee_load:worker"]
    assert unknown("sum by (model) (cuvee_load)") == ["model"]
    assert unknown("job:cuvee_renamed:ratio > 1") == ["job:cuvee_renamed:ratio"]


@pytest.mark.parametrize("rule", ALARMS, ids=lambda rule: rule["alert"])
def test_an_alarm_has_a_runbook(rule):
    """What it says, where to look, what to do."""
    page = (ROOT / "docs" / "runbooks.md").read_text()
    url = rule["annotations"]["runbook_url"]
    parts = page.split(f"## {rule['alert']}\n")

    assert url == f"docs/runbooks.md#{rule['alert'].lower()}"
    assert len(parts) == 2
    section = parts[1].split("\n## ")[0]
    assert all(f"**{word}**" in section for word in ("Says", "Look", "Do"))


@prometheus
def test_prometheus_takes_the_rules():
    """Its own checker reads them."""
    paths = (FOLDER / "alerts.yaml", FOLDER / "recording.yaml")
    done = subprocess.run(["promtool", "check", "rules", *paths], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@prometheus
def test_alarms_ring_when_they_must_and_only_then():
    """Every one in a world where it has to, and none of them in a healthy one."""
    cases = yaml.safe_load(CASES.read_text())["tests"]
    rung = {
        one["alertname"] for case in cases for one in case["alert_rule_test"] if one["exp_alerts"]
    }
    done = subprocess.run(["promtool", "test", "rules", CASES], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert rung == {rule["alert"] for rule in ALARMS}


def test_the_dashboard_asks_for_metrics_that_exist_and_for_no_recorded_one():
    """It works without the rules."""
    assert {query: wrong for query in queries() if (wrong := unknown(query))} == {}
    assert not any(name in query for query in queries() for name in RECORDED)


@prometheus
def test_prometheus_can_parse_every_query_of_the_dashboard(tmp_path):
    """And not one that is wrong."""
    assert checked([filled(query) for query in queries()], tmp_path) == ""
    assert checked(["sum by (model) rate(cuvee_load"], tmp_path) != ""


def test_panels_have_ids_names_and_places_of_their_own():
    """Grafana would show only one of two with the same id, and one above the other."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & taken, panel["title"]
        taken |= own

    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_works_for_any_source_and_all_its_choices_are_used():
    """Gateway, model, class and pool; where a metric has such a label, the choice counts."""
    assert {"datasource", "gateway", "model", "class", "pool"} <= VARIABLES.keys()
    for panel in PANELS:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
            for _, matchers in re.findall(r"((?:cuvee|process)_\w+)(\{[^}]*\})", target["expr"]):
                assert 'instance=~"$gateway"' in matchers, panel["title"]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS)))
    assert used - {"__rate_interval"} == VARIABLES.keys()


def test_the_dashboard_tells_of_everything_that_an_operator_asks():
    """Promise, load, money, queue and refusals, sizes, backends, loops."""
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]

    assert rows == [
        "Promise", "Load", "Money", "Queue and refusals", "Sizes", "Backends",
        "Loops and processes",
    ]  # fmt: skip
