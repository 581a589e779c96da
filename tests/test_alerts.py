"""The alarms that ship: each asks for metrics that exist, and has a runbook."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.telemetry.definitions import METRICS

ROOT = Path(__file__).parents[1]
PATH = ROOT / "configs" / "prometheus" / "alerts.yaml"
RULES = yaml.safe_load(PATH.read_text())["groups"][0]["rules"]
SUFFIXES = ("_bucket", "_sum", "_count")


def test_there_are_ten_alarms_with_names_of_their_own():
    """As many as a person can know."""
    assert len({rule["alert"] for rule in RULES}) == len(RULES) == 10


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alarm_asks_for_metrics_that_exist_by_labels_that_they_have(rule):
    """A metric that was renamed would keep its alarm silent for ever."""
    known = {metric.name: metric for metric in METRICS}
    for name, labels in re.findall(r"(cuvee_\w+)(\{[^}]*\})?", rule["expr"]):
        base = name if name in known else re.sub("|".join(SUFFIXES) + "$", "", name)
        assert base in known, name
        for label in re.findall(r"(\w+)\s*[=!]", labels):
            assert label in known[base].labels


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alarm_has_a_runbook(rule):
    """What it says, where to look, what to do."""
    page = (ROOT / "docs" / "runbooks.md").read_text()
    url = rule["annotations"]["runbook_url"]
    parts = page.split(f"## {rule['alert']}\n")

    assert url == f"docs/runbooks.md#{rule['alert'].lower()}"
    assert len(parts) == 2
    section = parts[1].split("\n## ")[0]
    assert all(f"**{word}**" in section for word in ("Says", "Look", "Do"))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian: prometheus)")
def test_prometheus_takes_the_alarms():
    """Its own checker reads them."""
    done = subprocess.run(["promtool", "check", "rules", PATH], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert f"{len(RULES)} rules found" in done.stdout
