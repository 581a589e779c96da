"""The trace on the disk: bounded, whole lines, and nobody waits for it."""

import logging
import os
import resource
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.load import Loaded, without_file
from gateway.config.record_schema import TraceSection
from gateway.config.schema import BucketSection
from gateway.trace_file import TraceFile
from planner.slo import Slo
from planner.traffic.gateway_trace import HEADER, ServedRequest
from planner.traffic.trace import read_trace

FULL = 4096  # bytes, the smallest file that may be configured


def request(at_s: float = 0.0) -> ServedRequest:
    return ServedRequest(
        at_s=at_s, caller="c", model="m", adapter="", endpoint="chat", slo_class="default",
        outcome="ok", input_tokens=10, output_tokens=5, cached_tokens=0, width=1, estimated=False,
        ttft_s=None, duration_s=1.0,
    )  # fmt: skip


def loaded(path: Path, **fields: Any) -> Loaded:
    """A configuration with a trace."""
    plain = without_file("m", Slo(ttft_s=1.0, tpot_s=0.1), (), BucketSection())
    section = TraceSection(path=str(path), **fields)
    gateway = msgspec.structs.replace(plain.config.gateway, trace=section)
    config = msgspec.structs.replace(plain.config, gateway=gateway)
    return msgspec.structs.replace(plain, config=config, trace=path)


@pytest.fixture
def trace() -> Iterator[TraceFile]:
    made = TraceFile()
    yield made
    made.close()


def until(true: Callable[[], bool]) -> None:
    """Wait for the thread; in vain is a failure."""
    give_up_s = time.monotonic() + 5.0
    while not true():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def write(trace: TraceFile, path: Path, count: int, **fields: Any) -> None:
    """Write so many requests and wait for the thread; the trace is closed then."""
    trace.configure(loaded(path, **fields))
    for number in range(count):
        trace.add([request(number)])
    trace.close()


def test_without_a_configuration_nothing_is_done(trace: TraceFile, tmp_path: Path):
    """No thread, no file, no metric."""
    trace.add([request()])

    assert trace.requests == {}


def test_what_is_written_is_read(trace: TraceFile, tmp_path: Path):
    """And is nobody else's business."""
    path = tmp_path / "traffic.csv"
    write(trace, path, 50)

    assert len(read_trace(path)) == 50
    assert trace.requests == {"written": 50, "lost": 0}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_file_is_followed_by_another_and_the_oldest_goes(trace: TraceFile, tmp_path: Path):
    """At most so many files, each about as large as it may be, every one a trace by itself."""
    path = tmp_path / "traffic.csv"
    write(trace, path, 400, file_bytes=FULL, files=3)

    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["traffic.csv", "traffic.csv.1", "traffic.csv.2"]
    assert all(each.stat().st_size < FULL + 200 for each in tmp_path.iterdir())
    newest = read_trace(path, model="m")
    assert len(newest) > 0
    assert trace.requests["written"] == 400


def test_one_file_begins_anew(trace: TraceFile, tmp_path: Path):
    """Where only one may be."""
    path = tmp_path / "traffic.csv"
    write(trace, path, 400, file_bytes=FULL, files=1)

    assert [each.name for each in tmp_path.iterdir()] == ["traffic.csv"]
    assert path.stat().st_size < FULL + 200


def test_the_next_gateway_goes_on_in_the_same_file(tmp_path: Path):
    """After a line that a crash cut, which goes."""
    path = tmp_path / "traffic.csv"
    write(TraceFile(), path, 3)
    with path.open("a") as file:
        file.write("1790000000.5,10")
    write(TraceFile(), path, 2)

    assert len(read_trace(path)) == 5


def test_callers_of_two_runs_are_joined_by_a_salt_only(tmp_path: Path):
    """Without one a run has its own."""
    chance, salted = tmp_path / "chance.csv", tmp_path / "salted.csv"
    for _ in range(2):
        write(TraceFile(), chance, 1)
        write(TraceFile(), salted, 1, salt="s")

    assert len(set(read_trace(chance).key)) == 2
    assert len(set(read_trace(salted).key)) == 1


def test_other_peoples_files_stay_as_they_are(
    trace: TraceFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """A path that was mistaken costs lines and no file."""
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n")
    write(trace, path, 3)

    assert path.read_text() == "dear diary\n"
    assert trace.requests == {"written": 0, "lost": 3}
    assert "holds something else" in caplog.text


def test_a_trace_of_other_columns_is_put_aside(trace: TraceFile, tmp_path: Path):
    """As a newer version finds it."""
    path = tmp_path / "traffic.csv"
    old = "arrival_s,input_tokens,output_tokens,outcome\n"
    path.write_text(old)
    write(trace, path, 2)

    assert path.with_name("traffic.csv.1").read_text() == old
    assert len(read_trace(path)) == 2


def test_a_file_that_was_moved_away_is_made_again(trace: TraceFile, tmp_path: Path):
    """As logrotate does it, without a signal."""
    path = tmp_path / "traffic.csv"
    trace.configure(loaded(path))
    trace.add([request()])
    until(lambda: trace.requests["written"] == 1)
    path.rename(tmp_path / "moved.csv")
    trace.add([request()])
    trace.close()

    assert len(read_trace(path)) == len(read_trace(tmp_path / "moved.csv")) == 1


def test_a_trace_that_ends_lets_its_file_go(trace: TraceFile, tmp_path: Path):
    """Nothing stays open that an operator may delete; it may begin again."""
    path, on = tmp_path / "traffic.csv", loaded(tmp_path / "traffic.csv")
    off = msgspec.structs.replace(on, trace=None)

    def is_open() -> bool:
        links = (os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
        return str(path.resolve()) in links

    trace.configure(on)
    trace.add([request()])
    trace.configure(off)
    trace.add([request()])
    until(lambda: trace.requests["written"] == 1 and not is_open())
    trace.configure(on)
    trace.add([request()])
    trace.close()

    assert len(read_trace(path)) == 2


def test_one_line_of_the_log_says_that_nothing_can_be_written(
    trace: TraceFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Not one for each request; when it can be again, another one says so."""
    path = tmp_path / "folder" / "traffic.csv"
    caplog.set_level(logging.WARNING, "cuvee")
    trace.configure(loaded(path))
    for _ in range(5):
        trace.add([request()])
    until(lambda: trace.requests["lost"] == 5)
    path.parent.mkdir()
    trace.add([request()])
    trace.close()

    assert [record.message.split(": ")[-1] for record in caplog.records] == [
        "No such file or directory", f"the trace {path} is written again",
    ]  # fmt: skip
    assert trace.requests == {"written": 1, "lost": 5}
    assert len(read_trace(path)) == 1


def test_a_full_disk_leaves_whole_lines(trace: TraceFile, tmp_path: Path):
    """What was begun is taken back. The limit of this process stands for the disk's."""
    path = tmp_path / "traffic.csv"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(HEADER) + 250, before[1]))
    try:
        write(trace, path, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    text = path.read_text()
    assert text.endswith("\n")
    assert len(read_trace(path)) == trace.requests["written"] > 0
    assert trace.requests["written"] + trace.requests["lost"] == 10


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_stops_nobody(trace: TraceFile, tmp_path: Path, kind: str):
    """Nothing waits for a reader of a pipe."""
    path = tmp_path / "traffic.csv"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    write(trace, path, 2)

    assert trace.requests == {"written": 0, "lost": 2}
