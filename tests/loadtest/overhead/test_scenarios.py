"""The scenarios, and the request that each sends."""

import json

import pytest

from loadtest.overhead import mock, scenarios
from loadtest.overhead.scenarios import OverheadOptions, Scenario


def test_scenarios_are_streams_then_the_product_of_sizes_and_widths_then_open_loops():
    """Open loops at a share of the best need the closed ones before them."""
    options = OverheadOptions(body_kib=(1, 16), connections=(1, 64), streams=(100, 1000))

    chosen = options.scenarios()

    closed = [(s.body_bytes // 1024, s.connections) for s in chosen if s.closed]
    assert closed == [(1, 1), (1, 64), (16, 1), (16, 64)]
    assert [s.name for s in chosen if not s.closed] == [
        "100 streams × 20 ms",
        "1000 streams × 50 ms",
        "1 KiB at 2000/s",
        "1 KiB at 50% load",
    ]
    assert [s.unit for s in chosen] == ["chunk"] * 2 + ["request"] * 6


def test_without_a_closed_loop_there_is_no_share_of_its_best():
    """Any kind of traffic can be left out."""
    assert OverheadOptions(connections=(), rates=(), streams=()).scenarios() == ()


def test_many_streams_are_slow_ones_that_begin_one_after_another():
    """All streams together send 20,000 chunks/s at most, unless an interval is asked for."""
    many = OverheadOptions(streams=(10_000,))
    given = OverheadOptions(streams=(10_000,), interval_s=0.1)

    assert many.scenarios()[0].interval_s == 0.5
    assert given.scenarios()[0].interval_s == 0.1
    assert many.warmup_of(many.scenarios()[0]) == 20.0
    assert many.warmup_of(many.scenarios()[-1]) == many.warmup_s


def test_a_proxy_needs_two_files_for_a_stream():
    """What a process may not open is left out, not measured as an error."""
    streams = OverheadOptions(streams=(9_900,)).scenarios()[0]

    assert scenarios.fits(streams, 20_000)
    assert not scenarios.fits(streams, 19_999)


@pytest.mark.parametrize("size", [1024, 16384, 65536])
@pytest.mark.parametrize("interval_s", [None, 0.02])
def test_a_request_has_exactly_its_size(size: int, interval_s: float | None):
    """The body is a valid chat of as many bytes as the scenario says, with the mock's pace."""
    scenario = Scenario(name="s", connections=1, body_bytes=size, interval_s=interval_s, chunks=7)

    head, _, body = scenarios.request(scenario).partition(b"\r\n\r\n")

    assert len(body) == size
    assert f"content-length: {size}".encode() in head
    chat = json.loads(body)
    assert chat.get("stream", False) == (interval_s is not None)
    assert chat["messages"][0]["role"] == "user"
    if interval_s is not None:
        assert mock.decode_spec(body) == mock.StreamSpec(max_tokens=7, seed=20)


@pytest.mark.parametrize(("total", "parts"), [(64, 2), (1, 2), (5, 3), (3, 1)])
def test_connections_are_shared_out_whole(total: int, parts: int):
    """Nothing is lost, no process has two more than another, and none has none."""
    sizes = scenarios.split_evenly(total, parts)

    assert sum(sizes) == total
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
