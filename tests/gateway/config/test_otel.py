"""The section of OpenTelemetry: what is wrong with it, by its key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.change import change
from gateway.config.load import Loaded, load
from gateway.errors import ConfigError


def loaded(folder: Path, otel: dict[str, Any]) -> Loaded:
    pool = {
        "model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0,
        "backends": ["http://a:8000"],
    }  # fmt: skip
    raw = {
        "models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": {"a": pool},
        "gateway": {"otel": otel},
    }
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    return load(path)


@pytest.mark.parametrize(
    ("otel", "line"),
    [
        ({}, "gateway.otel"),
        ({"endpoint": "collector:4318"}, "gateway.otel.endpoint: must be a URL"),
        ({"endpoint": "http://:4318"}, "gateway.otel.endpoint: this is no URL of a host"),
        ({"endpoint": "http://a:99999"}, "gateway.otel.endpoint: this is no URL of a host"),
        ({"endpoint": "http://a:4318/v1/traces"}, "gateway.otel.endpoint: ends before /v1/traces"),
        ({"endpoint": "http://a", "sample": 10}, "gateway.otel.sample: must be between 0 and 1"),
        ({"endpoint": "http://a", "ca_file": "x"}, "gateway.otel.ca_file: http:// has no"),
        ({"endpoint": "https://a", "ca_file": "x"}, "gateway.otel.ca_file: no such file"),
        ({"endpoint": "http://a", "headers_file": "x"}, "otel.headers_file: no such file"),
        ({"endpoint": "http://a", "ratio": 0.1}, "gateway.otel"),
    ],
)
def test_mistakes_are_told_by_their_key(tmp_path, otel, line):
    """Before anything is sent."""
    with pytest.raises(ConfigError) as wrong:
        loaded(tmp_path, otel)

    assert any(line in problem for problem in wrong.value.problems), wrong.value.problems


def test_another_collector_needs_no_restart(tmp_path):
    """All of it can be put in force at any time."""
    before = loaded(tmp_path, {"endpoint": "http://a:4318"})
    step = change(before, loaded(tmp_path, {"endpoint": "https://b", "sample": 0.5}))

    assert step.restart == ()
    assert set(step.keys) == {"gateway.otel.endpoint", "gateway.otel.sample"}
