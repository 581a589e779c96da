"""What the benchmark turns on is read by the gateway, and lets its own requests in."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.load import load
from loadtest.overhead import front_door, peers, scenarios
from loadtest.overhead.peers import ProxySettings


@pytest.mark.parametrize("part", front_door.PARTS)
def test_each_part_is_what_it_says_and_nothing_else(settings: ProxySettings, part: str):
    """Keys with every limit, a line for each request, a tenth of them traced, or all of it; or a
    certificate."""
    more = front_door.sections(part, settings.folder, "http://127.0.0.1:4318")
    loaded = load(Path(peers.gateway_argv(settings, more)[2]))

    gateway = loaded.config.gateway
    assert (loaded.access is not None) is (part in ("keys", "all"))
    assert gateway.request_log == (1.0 if part in ("log", "all") else 0.0)
    assert (gateway.otel is not None) is (part in ("traces", "all"))
    assert (loaded.tls is not None) is (part == "tls")
    assert front_door.needs_collector((part,)) is (part in ("traces", "all"))
    if gateway.otel is not None:
        assert gateway.otel.sample == front_door.TRACED
    if loaded.access is not None:
        (bench,) = (key for key in loaded.access.keys if key.name == "bench")
        assert len(loaded.access.keys) == front_door.OTHERS + 1
        assert None not in (bench.requests_per_minute, bench.tokens_per_minute, bench.concurrency)
        assert None not in (bench.usd_per_day, bench.expires_s)


def test_the_key_of_the_benchmark_is_in_its_requests():
    """Or it would measure refusals."""
    scenario = replace(scenarios.OverheadOptions().scenarios()[-1], body_bytes=1024)

    assert f"authorization: Bearer {scenarios.KEY}".encode() in scenarios.request(scenario)
