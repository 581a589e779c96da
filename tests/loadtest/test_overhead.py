import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from loadtest import overhead, process, setups
from loadtest.measure import DIRECT, REFERENCE, Scenario
from loadtest.overhead import Options
from planner import profiles

SHORT = Options(
    proxies=(REFERENCE,),
    rounds=1,
    warmup_s=0.2,
    window_s=0.3,
    connections=3,
    streams=4,
    chunks=5,
    interval_s=0.01,
)


def test_the_scenarios_cover_requests_latency_and_streams():
    """Each body size under saturation, one lone connection, and the paced streams."""
    scenarios = Options(body_kib=(1, 16)).scenarios()

    assert [s.connections for s in scenarios] == [64, 64, 1, 100]
    assert [s.body_bytes for s in scenarios] == [1024, 16384, 1024, 1024]
    assert [s.unit for s in scenarios] == ["request", "request", "request", "chunk"]


@pytest.mark.parametrize("size", [1024, 16384])
@pytest.mark.parametrize("interval_s", [None, 0.02])
def test_a_request_has_exactly_its_size(size: int, interval_s: float | None):
    """The body is a valid chat of as many bytes as the scenario says."""
    scenario = Scenario(name="s", connections=1, body_bytes=size, interval_s=interval_s)

    head, _, body = overhead.request(scenario).partition(b"\r\n\r\n")

    assert len(body) == size
    assert f"content-length: {size}".encode() in head
    chat = json.loads(body)
    assert chat.get("stream", False) == (interval_s is not None)
    assert chat["messages"][0]["role"] == "user"


@pytest.mark.parametrize(("total", "parts"), [(64, 2), (1, 2), (5, 3), (3, 1)])
def test_connections_are_shared_out_whole(total: int, parts: int):
    """Nothing is lost, nobody has two more than another, and nobody has none."""
    sizes = overhead.shares(total, parts)

    assert sum(sizes) == total
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def test_the_gateways_configuration_names_a_real_profile(tmp_path: Path):
    """What is written for the gateway is YAML with a profile that can be read."""
    config = msgspec.yaml.decode(setups.gateway_config(8080, 9000, tmp_path))

    pool = config["pools"]["bench"]
    assert pool["model"] in config["models"]
    assert pool["backends"] == ["http://127.0.0.1:9000"]
    assert config["gateway"] == {"host": "127.0.0.1", "port": 8080}
    assert profiles.read(Path(pool["profile"])).gpu == "H100"


def test_a_process_that_never_answers_is_reported_with_its_last_words(tmp_path: Path):
    """A proxy that dies at its start ends the benchmark with its own message."""
    argv = (sys.executable, "-c", "import sys; sys.exit('no such option')")

    with ExitStack() as stack, pytest.raises(setups.NotReady, match="no such option"):
        stack.enter_context(
            setups.answering(
                "proxy", argv, process.free_port(), tuple(os.sched_getaffinity(0))[:1], tmp_path
            )
        )


def test_a_short_run_measures_every_set_up_that_is_there():
    """Each set-up does work without errors under each scenario; only proxies have a CPU figure."""
    measures, skipped = overhead.bench(SHORT)

    names = [DIRECT, *({REFERENCE} - skipped.keys())]
    assert [m.setup for m in measures] == [name for name in names for _ in SHORT.scenarios()]
    assert all(m.errors == {} and m.units > 0 for m in measures)
    assert all(m.p50_s is not None for m in measures)
    assert {m.setup for m in measures if m.cpu_s is not None} == {*names} - {DIRECT}
    assert all(sum(m.cpu_s or 0.0 for m in measures if m.setup == name) > 0 for name in names[1:])


def test_the_command_is_usable_from_its_help():
    """Every option is explained or speaks for itself."""
    result = CliRunner().invoke(overhead.overhead, ["--help"])

    assert result.exit_code == 0
    assert "HAProxy" in result.output


def test_the_conditions_are_said():
    """Figures without machine, versions, cores and options are worth nothing."""
    said = json.loads(json.dumps(overhead.conditions(SHORT)))

    assert said["options"]["connections"] == 3
    assert {"proxy", "backend", "load"} == said["cores"].keys()
    assert said["python"].startswith("3.")
