"""What a process uses, as the machine tells it."""

import os
import resource
import subprocess
import sys
import time

from gateway.processes import usage, usages


def test_this_process_is_measured():
    """CPU, memory, files and start, each near to what the process itself finds."""
    found = usage(os.getpid())
    own = resource.getrusage(resource.RUSAGE_SELF)

    assert found is not None
    assert abs(found.cpu_s - (own.ru_utime + own.ru_stime)) < 0.5
    assert 0 < found.resident_bytes <= 1024 * own.ru_maxrss * 1.1
    assert 3 <= found.open_files <= len(os.listdir("/proc/self/fd"))
    assert 0 < found.started_at_s <= time.time()


def test_an_open_file_counts():
    """However the kernel tells it."""
    before = usage(os.getpid())
    with open(os.devnull):
        after = usage(os.getpid())

    assert before is not None
    assert after is not None
    assert after.open_files == before.open_files + 1


def test_a_process_that_ended_is_left_out():
    """A scrape may come between the end of a worker and its replacement."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert list(usages({"self": os.getpid(), "ended": ended.pid, "none": None})) == ["self"]
