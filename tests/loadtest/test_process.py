import os
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import process
from loadtest.process import Stat

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"
PARENT = f"""
import subprocess, sys
{BUSY}
child = subprocess.Popen([sys.executable, "-c", {BUSY + "print(1, flush=True); input()"!r}],
                         stdin=subprocess.PIPE)
input()
"""
REAPING = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BUSY!r}])
print(1, flush=True)
input()
"""


@pytest.mark.parametrize(("program", "least_s"), [(PARENT, 0.6), (REAPING, 0.3)])
def test_cpu_time_counts_a_process_and_all_under_it(program: str, least_s: float):
    """What a child used belongs to the tree, while it lives and when it has been waited for."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # said when the time has been used

        used_s = process.cpu_s(child.pid)

        child.communicate(b"\n")
    ticks = 4 / os.sysconf("SC_CLK_TCK")  # user and system of two processes are each rounded down
    assert used_s >= least_s - ticks


def test_cpu_time_of_nobody_is_none_at_all():
    """A process that has ended has no time that could be charged to the proxy."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()

    assert process.cpu_s(child.pid) == 0.0


def test_a_stat_line_is_read_whatever_the_command_is_called():
    """Parentheses and spaces in a command's name do not shift the fields."""
    rest = "S 41 1 1 0 -1 4194560 10 0 0 0 150 50 7 3 20 0 1 0 100 1 1"

    for name in ("python", "a b", "x) S 9 (y", ""):
        assert process.parse(f"42 ({name}) {rest}") == Stat(pid=42, parent=41, cpu_ticks=210)


def test_a_tree_is_all_descendants_and_nobody_else():
    """Grandchildren belong to it in any order of listing; siblings and ancestors do not."""
    parents = {5: 4, 2: 1, 4: 2, 3: 1, 6: 4, 1: 0}
    stats = [Stat(pid=pid, parent=parent, cpu_ticks=1) for pid, parent in parents.items()]

    assert {stat.pid for stat in process.tree(stats, 2)} == {2, 4, 5, 6}
    assert process.tree(stats, 99) == ()


@given(st.sets(st.integers(0, 500), min_size=1, max_size=64))
def test_the_proxy_has_its_core_to_itself_when_there_are_two(available: set[int]):
    """Everything runs on cores that exist, and only a single core is ever shared by the proxy."""
    cores = process.divide(tuple(available))

    used = {*cores.proxy, *cores.backend, *cores.load}
    assert used <= available
    assert len(cores.proxy) == len(cores.backend) == 1
    assert 1 <= len(cores.load) <= 2
    if len(available) > 1:
        assert not set(cores.proxy) & {*cores.backend, *cores.load}
    if len(available) > 2:
        assert not set(cores.backend) & set(cores.load)


def test_a_child_is_pinned_and_ended():
    """A child runs on its core alone and is gone when it is no longer needed."""
    core = max(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryFile() as log,
        process.running([sys.executable, "-c", "input()"], (core,), log=log) as child,
    ):
        assert os.sched_getaffinity(child.pid) == {core}

    assert child.returncode is not None


def test_a_free_port_can_be_listened_on():
    """Two ports asked for one after the other are real ports."""
    assert 1024 <= process.free_port() <= 65535
