"""Which requests have a line in the log, and what it says."""

import logging
import os
import random
import re
from contextlib import contextmanager
from typing import Any

import pytest

from gateway import logs
from gateway.routing.endpoints import CHAT
from gateway.routing.observation import Observation, Outcome
from gateway.workers.request_lines import RequestLines
from gateway.workers.request_log import RequestLog
from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo

BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1.0, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 64, 256), output_edges=(1, 32, 128)),
)
FIELDS: dict[str, Any] = {
    "model": "m", "caller": "k", "endpoint": CHAT, "stream": True, "bucket": 3,
    "prompt_bytes": 400, "max_tokens": None, "estimated_input": 100, "estimated_output": 50,
    "exact_input": False, "outcome": Outcome.OK, "status": 200, "duration_s": 2.0,
    "arrival_s": 40.0, "ttft_s": 0.1234567, "request_id": b"r1", "pool": "a", "backend": "a-0",
    "plan_id": "p", "decision": "planned", "retries": 1,
}  # fmt: skip


@pytest.fixture
def written(caplog):
    """A function that logs requests with a share, and returns the fields of their lines."""
    caplog.set_level(logging.INFO, "cuvee.requests")

    def write(share, *ended):
        log = RequestLog(share, BUCKETS, None)
        for observation in ended:
            log.write(observation, 1000.0, 957.5)
        log.refused(404, "not_found")
        return [logs.fields(record) for record in caplog.records]

    return write


def test_a_line_says_what_became_of_a_request(written):
    """Decision, sizes, times, end and promise; the arrival is by the clock on the wall."""
    line, refused = written(1.0, Observation(**FIELDS))

    assert line == {
        "arrived_at": "1970-01-01T00:16:37.500000+00:00", "request_id": "r1", "model": "m",
        "caller": "k",
        "endpoint": CHAT.name, "stream": True, "outcome": "ok", "status": 200, "reason": None,
        "attempts": 2, "bucket": 3, "plan": "p", "pool": "a", "backend": "a-0",
        "decision": "planned", "estimated_input": 100, "input_tokens": None,
        "cached_tokens": None,
        "estimated_output": 50, "output_tokens": None, "max_tokens": None, "sequences": 1,
        "ttft_s": 0.123457,
        "waited_s": None, "tpot_s": None, "duration_s": 2.0, "class": "default",
        "slo_met": "yes",
    }  # fmt: skip
    assert refused == {"outcome": "rejected", "status": 404, "reason": "not_found"}


def test_a_share_of_the_requests_is_logged_and_every_failure(written):
    """Every fourth request in turn, and those that failed besides."""
    ends = [Outcome.OK] * 6 + [Outcome.FAILED] + [Outcome.ABANDONED] * 5
    lines = written(0.25, *(Observation(**(FIELDS | {"outcome": end})) for end in ends))

    assert [line["outcome"] for line in lines] == ["ok", "failed", "abandoned", "abandoned"]


@contextmanager
def own_log(form, process):
    """A writer of the process's own log, and the end of the pipe to read from."""
    reading, writing = os.pipe()
    writer = logs.LogWriter(writing, form=form, process=process)
    with os.fdopen(reading, "rb") as stream:
        yield writer, stream
        writer.close()
        writer._thread.join()
    os.close(writing)


@pytest.mark.parametrize("process", ["", "worker-1"])
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"outcome": Outcome.FAILED, "reason": "a b", "stream": True, "tpot_s": 0.5, "status": 502},
        {"slo_class": "best-effort", "pool": None, "backend": None, "cached_tokens": 0},
        {"caller": 'of "all"', "duration_s": 1e-7, "arrival_s": 42.5},
        {"caller": "Zoë\x9b", "request_id": b'r\x9b="'},
    ],
)
def test_lines_at_little_cost_are_those_of_logging(caplog, form, process, fields):
    """To the byte, whatever stands in them: as a record with the same fields is formatted."""
    caplog.set_level(logging.INFO, "cuvee.requests")
    ended = Observation(**(FIELDS | {"pool": "a"} | fields))
    with own_log(form, process) as (writer, stream):
        RequestLog(1.0, BUCKETS, None).write(ended, 1000.25, 957.75)
        (record,) = caplog.records
        record.created, record.msecs = 1000.25, 250.0
        expected = writer.format(record)
        caplog.clear()
        fast = RequestLog(1.0, BUCKETS, RequestLines(writer))
        fast.write(ended, 1000.25, 957.75)
        fast.flush()
        for left in caplog.records:  # written in the slow way, for its signs
            assert not expected.isprintable() or "\\u" in expected
            left.created, left.msecs = 1000.25, 250.0
            writer.handle(left)
        line = stream.readline().decode()

    assert line == expected + "\n"


def test_times_are_written_as_python_writes_them():
    """Of any length: with an exponent below 0.0001, without zeros at the end, but for one."""
    chance = random.Random(7)
    found = [0, 1, 9, 10, 99, 100, 101, 120, 1_000, 99_999, 100_000, 1_000_000, 20_000_000]
    found += [chance.randrange(10 ** chance.randrange(1, 10)) for _ in range(200)]
    with own_log("json", "") as (writer, stream):
        log = RequestLog(1.0, BUCKETS, RequestLines(writer))
        for us in found:
            log.write(Observation(**(FIELDS | {"duration_s": us / 1e6})), 1e3, 957.5)
        log.flush()
        read = [stream.readline().decode() for _ in found]

    assert [line.split('"duration_s":')[1] for line in read] == [
        f"{us / 1e6!r}}}\n" for us in found
    ]


def test_what_does_not_fit_is_dropped_and_counted_by_lines():
    """While nobody reads: the data path never waits for it."""
    ended = Observation(**FIELDS)
    with own_log("text", "") as (writer, stream):
        log = RequestLog(1.0, BUCKETS, RequestLines(writer))
        for number in range(20_000):
            log.write(ended, 1e3, 957.5)
            if number % 32 == 31:
                log.flush()
        dropped, told, whole = writer.dropped, 0, 0
        while told < dropped or whole < 20_000 - dropped:  # it is told once, or bit by bit
            line = stream.readline()
            whole += line.endswith(b"duration_s=2.0\n")
            notice = re.search(rb" (\d+) lines of the log were dropped", line)
            told += 0 if notice is None else int(notice[1])

    assert (told, whole) == (dropped, 20_000 - dropped)
    assert 0 < dropped <= 20_000 - logs.LINES
    assert dropped % 32 == 0


def test_lines_of_many_requests_arrive_whole_and_in_order():
    """More than are written at once, and the last ones too."""
    ended = Observation(**FIELDS)
    with own_log("text", "worker-1") as (writer, stream):
        log = RequestLog(1.0, BUCKETS, RequestLines(writer))
        for number in range(200):
            ended.bucket = number % 4
            log.write(ended, 1e3, 957.5)
            if number % 3 == 0:
                log.flush()
        log.flush()
        read = [stream.readline() for _ in range(200)]

    buckets = [line.split(b" bucket=")[1][:1] for line in read]
    assert buckets == [b"%d" % (number % 4) for number in range(200)]
    assert all(line.endswith(b"\n") for line in read)
    assert writer.dropped == 0
