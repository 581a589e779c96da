"""The log: what a line says, and that nobody waits for its reader."""

import fcntl
import json
import logging
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway import logs

ROOT = Path(__file__).resolve().parents[2]


def record(message, *arguments, level=logging.INFO, **attributes):
    """A record as a logger makes it."""
    made = logging.LogRecord("cuvee.x", level, __file__, 1, message, arguments, None)
    made.__dict__.update(attributes)
    return made


@contextmanager
def writer(*, reader=True):
    """A writer to a pipe of 4 KiB that nobody reads, and the end to read from."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    found = logs.LogWriter(writing)
    found.setFormatter(logs.TextLines())
    with os.fdopen(reading, "rb") as stream:
        if not reader:
            stream.close()
        yield found, stream
    found.close()
    found._thread.join()  # or it would write to whatever has the number next
    os.close(writing)


def test_what_is_logged_arrives_in_order():
    """Every line, whole, and no other."""
    with writer() as (log, stream):
        for number in range(40):
            log.handle(record("line %d", number))
        read = [stream.readline() for _ in range(40)]

    assert [line.split()[-1] for line in read] == [b"%d" % n for n in range(40)]
    assert log.dropped == 0


def test_nobody_waits_for_a_log_that_nobody_reads():
    """More lines than the pipe and the queue hold: the rest is dropped, and once somebody reads
    again, lines say how many."""
    with writer() as (log, stream):
        for number in range(3 * logs.LINES):
            log.handle(record("line %d", number))
        dropped, told = log.dropped, 0
        first = line = stream.readline()
        while told < dropped:
            line = stream.readline()
            if b" were dropped" in line:
                told += int(line.split()[4])

    assert logs.LINES < dropped < 2 * logs.LINES
    assert first.endswith(b"line 0\n")
    assert told == dropped


def test_the_end_does_not_wait_for_a_reader_either(monkeypatch):
    """Lines that nobody takes within the limit are lost, not waited for."""
    monkeypatch.setattr(logs, "FLUSH_S", 0.0)
    with writer() as (log, _):
        for number in range(1000):
            log.handle(record("line %d", number))
        log.close()


def test_a_reader_that_left_costs_only_its_lines():
    """A closed pipe neither raises nor ends the process."""
    with writer(reader=False) as (log, _):
        for number in range(3):
            log.handle(record("line %d", number))
        log.close()

    assert log.dropped == 3


def test_a_pipe_that_does_not_block_gets_every_line():
    """Another program may have made it so; the thread waits all the same."""
    with writer() as (log, stream):
        os.set_blocking(log._fd, False)
        for _ in range(100):
            log.handle(record("x" * 200))
        read = [stream.readline() for _ in range(100)]

    assert {line[-201:] for line in read} == {b"x" * 200 + b"\n"}


def test_a_record_that_cannot_be_formatted_is_dropped():
    """A mistake in a log statement does not become one of the gateway."""
    with writer() as (log, _):
        log.handle(record("%d", "word"))

    assert log.dropped == 1


def test_a_line_for_people_is_one_line():
    """What others chose, a name or an error of an engine, cannot begin another line or steer a
    terminal."""
    line = logs.TextLines("worker-1").format(
        record(
            "broke: %s",
            "a\r\nb\x1b[31m\x9b\u2028",
            fields={"id": 'x "y"\n', "n": 0.25, "z": None, "e": ""},
        )
    )

    assert line.endswith(
        r'INFO cuvee.x [worker-1] broke: a\r\nb\x1b[31m\x9b\x2028 id="x \"y\"\n" n=0.25'
    )


def test_a_line_for_machines_is_one_object():
    """Time in UTC, level, logger, process, message, and every field, unknown ones as null."""
    line = logs.JsonLines("supervisor").format(
        record(
            "a\nb %s",
            "ü",
            level=logging.ERROR,
            fields={"id": "x", "ttft_s": None},
            created=1.5,
            msecs=500.0,
        )
    )

    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.500Z", "level": "error", "logger": "cuvee.x",
        "process": "supervisor", "message": "a\nb ü", "id": "x", "ttft_s": None,
    }  # fmt: skip


def test_a_long_line_for_machines_is_still_one_object():
    """What is cut is the message, and not the text of the object."""
    made = record("\x1b%s", "x" * 50_000, fields={"id": "y" * 50_000})
    found = json.loads(logs.JsonLines("worker-1").format(made))

    assert found["cut"] is True
    assert (found["level"], found["process"]) == ("info", "worker-1")
    assert found["message"].startswith("\x1bxxx")
    assert len(json.dumps(found)) <= logs.LONGEST_LINE


FULL_FOR_A_WHILE = """
import os, resource, sys, time
from gateway.logs import LogWriter
file, room = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), int(sys.argv[2])
log = LogWriter(file)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
log.gather(b"aaa\\nbbb\\nccc\\n", 3)
end = time.monotonic() + 20
while not log.dropped and os.fstat(file).st_size < 12 and time.monotonic() < end:
    pass
time.sleep(0.1)  # the line about what was dropped does not fit either
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.gather(b"ddd\\n", 1)
log.close()
print(log.dropped)
"""


@pytest.mark.parametrize(("room", "lost"), [(0, 3), (4, 2), (6, 2), (10, 1), (12, 0)])
def test_a_disk_that_was_full_costs_only_the_lines_that_did_not_fit(tmp_path, room, lost):
    """Also the one that was cut; what comes when there is room again stands alone."""
    command = [sys.executable, "-c", FULL_FOR_A_WHILE, str(tmp_path / "log"), str(room)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = (tmp_path / "log").read_bytes().splitlines()

    assert int(ended.stdout) == lost
    assert [line for line in lines if len(line) == 3] == [
        *(b"aaa", b"bbb", b"ccc")[: 3 - lost],
        b"ddd",
    ]


def test_a_traceback_is_a_field():
    """An error in the gateway stays one object."""
    try:
        raise ValueError("odd")
    except ValueError:
        made = record("failed", exc_info=sys.exc_info())

    assert json.loads(logs.JsonLines().format(made))["traceback"].endswith("ValueError: odd")


@pytest.mark.parametrize("level", ["info", "error"])
def test_a_process_flushes_its_log_when_it_ends(level):
    """Warnings of Python go the same way; the log of requests does not depend on the level."""
    code = (
        "import logging, warnings; from gateway import logs; logs.begin('json', '%s');"
        "logging.getLogger('cuvee').info('one'); warnings.warn('two');"
        "logging.getLogger('cuvee.requests').info('three'); print(logs.dropped())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code % level.upper()], check=True, cwd=ROOT, capture_output=True
    )
    messages = [json.loads(line)["message"].split()[-1] for line in found.stderr.splitlines()]

    assert found.stdout == b"0\n"
    assert [m for m in messages if len(m) < 6][-1] == "three"
    assert ("one" in messages) is (level == "info")
