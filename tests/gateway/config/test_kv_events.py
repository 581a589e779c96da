"""The section of KV events: addresses, and what is wrong with them, by its key."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.kv_events import endpoint
from gateway.config.load import Loaded, load
from gateway.errors import ConfigError


def loaded(folder: Path, events: dict[str, Any], **pool: Any) -> Loaded:
    raw = {
        "models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": {
            "a": {
                "model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0,
                "backends": ["http://a:8000", "http://a:8001"], "kv_events": events,
            } | pool
        },
    }  # fmt: skip
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    return load(path)


@pytest.mark.parametrize(
    ("pattern", "url", "rank", "address"),
    [
        ("tcp://{host}:5557", "http://engine:8000", 0, "tcp://engine:5557"),
        ("tcp://{host}:5557", "http://engine:8000", 3, "tcp://engine:5560"),
        ("tcp://{host}:5557", "http://[fd00::1]:8000", 0, "tcp://[fd00::1]:5557"),
        ("tcp://{host}:{port+1000}", "http://10.0.0.1:8001", 0, "tcp://10.0.0.1:9001"),
        ("tcp://{host}:{port}", "https://engine", 1, "tcp://engine:444"),
        ("tcp://events.local:5557", "http://engine:8000", 0, "tcp://events.local:5557"),
        ("tcp://[::1]:5557", "http://engine:8000", 0, "tcp://[::1]:5557"),
    ],
)
def test_an_address_follows_its_backend(pattern, url, rank, address):
    """By host and port of its URL; each rank has the next port."""
    assert endpoint(pattern, url, rank) == address


@pytest.mark.parametrize(
    ("events", "line"),
    [
        ({"endpoint": "5557"}, "pools.a.kv_events.endpoint: must be tcp://HOST:PORT"),
        ({"endpoint": "tcp://*:5557"}, "pools.a.kv_events.endpoint: must be"),
        ({"endpoint": "tcp://{name}:1"}, "pools.a.kv_events.endpoint: must be"),
        ({"endpoint": "tcp://{host}:{port+60000}"}, "endpoint: there is no port 68000"),
        ({"endpoint": "tcp://{host}:0"}, "endpoint: there is no port 0"),
        ({"replay_endpoint": "ipc://x"}, "pools.a.kv_events.replay_endpoint: must be"),
        ({}, "pools.a.kv_events.endpoint: tcp://a:5557 is that of"),
        ({"endpoint": "tcp://{host}:{port}", "ranks": 2}, "tcp://a:8001 is that of"),
        ({"ranks": 0}, "pools.a.kv_events.ranks"),
        ({"port": 5557}, "pools.a.kv_events"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, events: dict[str, Any], line: str):
    """By the path of its key, also that two backends would have one publisher."""
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, events)

    assert any(line in problem for problem in error.value.problems), error.value.problems


def test_what_is_good_is_taken(tmp_path: Path):
    """With `affinity: off` there is a warning: it would be for nothing."""
    pytest.importorskip("zmq")
    good = {"endpoint": "tcp://{host}:{port+100}"}

    assert loaded(tmp_path, good).warnings == ()
    (warning,) = loaded(tmp_path, good, affinity="off").warnings
    assert "pools.a.kv_events: affinity is off" in warning


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch):
    """Where it is configured, and nowhere else."""
    monkeypatch.setitem(sys.modules, "zmq", None)

    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, {"endpoint": "tcp://{host}:{port+100}"})

    assert any("pip install 'cuvee[kv-events]'" in problem for problem in error.value.problems)
