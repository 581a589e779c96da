"""What becomes of traced requests when the collector takes them, does not, or is not there."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.load import Loaded, without_file
from gateway.config.otel_schema import OtelSection
from gateway.config.schema import BucketSection
from gateway.otel import exporter as module
from gateway.otel.collector import TRACES, Collector, NotTaken
from gateway.otel.exporter import Exporter
from gateway.otel.wire import message
from gateway.routing.fleet import Fleet
from gateway.telemetry.metrics import Metrics
from planner.slo import Slo
from tests.otlp_collector import OtlpCollector, collecting


def spans(number: int) -> bytes:
    """Of one request: a span whose id is the number."""
    return message(2, message(2, number.to_bytes(8, "big")))


def loaded(root: Path, url: str, **settings: Any) -> Loaded:
    """A configuration that sends there; without an URL none."""
    plain = without_file("m", Slo(ttft_s=1.0, tpot_s=0.05), (), BucketSection())
    section = OtelSection(endpoint=url, **settings) if url else None
    gateway = msgspec.structs.replace(plain.config.gateway, otel=section)
    config = msgspec.structs.replace(plain.config, gateway=gateway)
    return msgspec.structs.replace(plain, config=config, root=root)


@pytest.fixture
def metrics():
    return Metrics(Fleet.of({}))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)


def ids(collector: OtlpCollector) -> list[int]:
    return [int.from_bytes(span.span_id, "big") for span in collector.spans]


async def test_all_that_is_added_is_sent_once_in_order(metrics, tmp_path):
    """In as many messages as it takes, with the metrics beside them."""
    async with collecting() as collector:
        exporter = Exporter(metrics, send_s=0.01, pause_s=0.01)
        exporter.configure(loaded(tmp_path, collector.url, metrics_s=0.01, service="mine"))
        exporter.add([spans(number) for number in range(1, 1201)], lost=3)
        await until(lambda: exporter.requests == {"sent": 1200, "lost": 3})
        exporter.configure(loaded(tmp_path, ""))

    assert ids(collector) == list(range(1, 1201))
    assert collector.resource["service.name"] == "mine"
    assert metrics.loops.records == {}


async def test_what_is_refused_for_now_comes_again(metrics, tmp_path):
    """After 429, 502, 503 and 504; the loop fails meanwhile."""
    async with collecting() as collector:
        collector.answers = [503, 429, 504]
        exporter = Exporter(metrics, send_s=0.01, pause_s=0.01)
        exporter.configure(loaded(tmp_path, collector.url))
        exporter.add([spans(1)], lost=0)
        await until(lambda: exporter.requests == {"sent": 1, "lost": 0})
        record = metrics.loops.records["telemetry"]
        exporter.configure(loaded(tmp_path, ""))

    assert ids(collector) == [1]
    assert (record.failures, record.error) == (3, None)


async def test_a_collector_that_wants_no_pause_gets_one(metrics, tmp_path):
    """One that is busy for a moment would get all tries within milliseconds."""
    async with collecting() as collector:
        collector.answers, collector.pause = [503, 503], "0"
        exporter = Exporter(metrics, send_s=0.01, pause_s=0.2)
        exporter.configure(loaded(tmp_path, collector.url))
        began_s = asyncio.get_running_loop().time()
        exporter.add([spans(1)], lost=0)
        await until(lambda: exporter.requests == {"sent": 1, "lost": 0})
        took_s = asyncio.get_running_loop().time() - began_s
        exporter.configure(loaded(tmp_path, ""))

    assert took_s >= 0.2 + 0.4


@pytest.mark.parametrize("answers", [[400], [503] * module.TRIES])
async def test_what_is_refused_for_good_is_lost_and_counted(metrics, tmp_path, answers):
    """It must not stand in the way of what comes after it."""
    async with collecting() as collector:
        collector.answers = list(answers)
        exporter = Exporter(metrics, send_s=0.01, pause_s=0.01)
        exporter.configure(loaded(tmp_path, collector.url))
        exporter.add([spans(1)], lost=0)
        await until(lambda: exporter.requests == {"sent": 0, "lost": 1})
        failed = metrics.loops.records["telemetry"].error
        exporter.add([spans(2)], lost=0)
        await until(lambda: exporter.requests == {"sent": 1, "lost": 1})
        exporter.configure(loaded(tmp_path, ""))

    assert ids(collector) == [2]
    assert failed is not None
    assert str(answers[-1]) in failed


async def test_what_waits_is_bounded(metrics, tmp_path):
    """Before anything is sent, and without a collector nothing is kept at all."""
    exporter = Exporter(metrics)
    exporter.add([spans(1)], lost=0)
    idle = exporter.requests
    exporter.configure(loaded(tmp_path, "http://127.0.0.1:9"))
    exporter.add([spans(1)] * (module.MOST_WAITING + 7), lost=0)
    full = exporter.requests
    exporter.configure(loaded(tmp_path, ""))

    assert idle == {}
    assert full == {"sent": 0, "lost": 7}


async def test_another_configuration_loses_nothing(metrics, tmp_path):
    """What the first collector did not take goes to the second; what is the same goes on."""
    async with collecting() as first, collecting() as second:
        first.answers, first.pause = [503], "20"
        exporter = Exporter(metrics, send_s=0.01, pause_s=0.01)
        exporter.configure(loaded(tmp_path, first.url))
        exporter.add([spans(1)], lost=0)
        await until(lambda: len(first.bodies) > 0)
        exporter.configure(loaded(tmp_path, first.url))
        exporter.add([spans(2)], lost=0)
        exporter.configure(loaded(tmp_path, second.url))
        await until(lambda: exporter.requests == {"sent": 2, "lost": 0})
        exporter.configure(loaded(tmp_path, ""))

    assert ids(second) == [1, 2]


async def test_the_last_ones_are_sent_at_the_end(metrics, tmp_path):
    """With the last metrics."""
    async with collecting() as collector:
        exporter = Exporter(metrics)
        exporter.configure(loaded(tmp_path, collector.url))
        exporter.add([spans(1)], lost=0)
        await asyncio.to_thread(exporter.close)

    assert ids(collector) == [1]
    assert len(collector.bodies) == 2


async def test_headers_of_a_file_go_along_and_the_body_may_be_compressed(tmp_path):
    """The file is read at each sending, so that a key can be another one."""
    file = tmp_path / "headers"
    file.write_text("x-key: first\n\nx-scope:  a b\n")
    section = OtelSection(endpoint="http://x", headers_file="headers", compression="gzip")
    async with collecting() as collector:
        sender = Collector(msgspec.structs.replace(section, endpoint=collector.url), tmp_path)
        await sender.send(TRACES, b"")
        first = collector.headers
        file.write_text("x-key: second\n")
        await sender.send(TRACES, b"")

    assert (first["x-key"], first["x-scope"], first["content-encoding"]) == ("first", "a b", "gzip")
    assert collector.headers["x-key"] == "second"


async def test_a_file_that_is_wrong_is_told_without_what_is_in_it(tmp_path):
    """It may be a key."""
    (tmp_path / "headers").write_text("x: y\nsk-secret\n")
    section = OtelSection(endpoint="http://127.0.0.1:9", headers_file="headers")
    with pytest.raises(NotTaken, match="line 2 is no header") as wrong:
        await Collector(section, tmp_path).send(TRACES, b"")
    (tmp_path / "headers").unlink()
    with pytest.raises(NotTaken, match="No such file"):
        await Collector(section, tmp_path).send(TRACES, b"")

    assert "sk-secret" not in str(wrong.value)
    assert wrong.value.again
