"""Child processes of a benchmark: cores, CPU time, memory, and a clean end."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import process
from loadtest.process import CpuTime, ProcessStat

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
        child.stdout.readline()  # written when the CPU time has been used

        used_s = process.cpu_between((), process.snapshot(child.pid)).total_s

        child.communicate(b"\n")
    ticks = 4 / os.sysconf("SC_CLK_TCK")  # user and system of two processes are each rounded down
    assert used_s >= least_s - ticks


def test_what_runs_at_a_lower_priority_is_counted_apart():
    """A planner that takes what is left over is no part of what a request costs."""
    tree = [
        ProcessStat(pid=1, parent=0, niceness=2, user_ticks=100, system_ticks=20),
        ProcessStat(pid=2, parent=1, niceness=2, user_ticks=10, system_ticks=1),
        ProcessStat(pid=3, parent=1, niceness=7, user_ticks=1000, system_ticks=100),
    ]

    used = process.cpu_between((), tree, 0.01)

    assert used == CpuTime(user_s=1.1, system_s=0.21, background_s=11.0)
    assert used.total_s == pytest.approx(1.31)
    assert process.cpu_between(tree, tree, 0.01).background_s == 0.0
    assert process.cpu_between(tree, (), 0.01) == CpuTime(user_s=0.0, system_s=0.0)


def test_one_of_lower_priority_that_ends_stays_apart():
    """Its parent has all its time then, also what it used long ago."""
    first = ProcessStat(pid=1, parent=0, niceness=0, user_ticks=100, system_ticks=20)
    planner = ProcessStat(pid=2, parent=1, niceness=5, user_ticks=4800, system_ticks=9)
    after = replace(first, user_ticks=150, waited_user_ticks=4830, waited_system_ticks=9)
    another = replace(planner, pid=3, user_ticks=2, system_ticks=0)

    for tree, background_s in (((after,), 0.3), ((after, another), 0.32)):
        used = process.cpu_between((first, planner), tree, 0.01)
        assert (used.user_s, used.system_s) == (0.5, 0.0)
        assert used.background_s == pytest.approx(background_s)
    reaped = process.cpu_between((first,), (after,), 0.01)
    assert reaped.user_s == pytest.approx(48.8)  # a worker, for all that is known


def test_a_worker_that_ends_counts_for_what_it_used_between():
    """Not for what it had used before, which its parent has then, too."""
    first = ProcessStat(pid=1, parent=0, niceness=0, user_ticks=100, system_ticks=20)
    worker = replace(first, pid=2, parent=1, user_ticks=4800, system_ticks=9)
    after = replace(first, user_ticks=150, waited_user_ticks=4830, waited_system_ticks=9)

    used = process.cpu_between((first, worker), (after,), 0.01)

    assert used.user_s == pytest.approx(0.8)
    assert used.system_s == 0.0


def test_cpu_time_of_no_process_is_none_at_all():
    """A process that has ended has no time that could be charged to the proxy."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()

    assert process.snapshot(child.pid) == ()
    assert process.memory_mib(child.pid) == 0.0


def test_a_stat_line_is_read_whatever_the_command_is_called():
    """Parentheses and spaces in a command's name do not shift the fields."""
    rest = "S 41 1 1 0 -1 4194560 10 0 0 0 150 50 7 3 20 5 1 0 100 1 1"

    for name in ("python", "a b", "x) S 9 (y", ""):
        stat = process.parse_stat(f"42 ({name}) {rest}")
        assert stat == ProcessStat(
            pid=42, parent=41, niceness=5, user_ticks=150, system_ticks=50,
            waited_user_ticks=7, waited_system_ticks=3,
        )  # fmt: skip


def test_a_tree_is_all_descendants_and_nothing_else():
    """Grandchildren belong to it in any order of listing; siblings and ancestors do not."""
    parents = {5: 4, 2: 1, 4: 2, 3: 1, 6: 4, 1: 0}
    stats = [
        ProcessStat(pid=pid, parent=parent, niceness=0, user_ticks=1, system_ticks=0)
        for pid, parent in parents.items()
    ]

    assert {stat.pid for stat in process.process_tree(stats, 2)} == {2, 4, 5, 6}
    assert process.process_tree(stats, 99) == ()


@given(st.sets(st.integers(0, 500), min_size=1, max_size=64), st.integers(1, 8))
def test_the_proxy_has_its_cores_to_itself_when_there_are_enough(available: set[int], workers: int):
    """Every role runs on cores that exist, each worker on its own, and no other on the proxy's."""
    cores = process.assign_cores(tuple(available), workers)

    used = {*cores.proxy, *cores.backend, *cores.load}
    assert used <= available
    assert len(cores.proxy) == max(1, min(workers, len(available) - 1))
    assert cores.backend
    assert cores.load
    if len(available) > 1:
        assert not set(cores.proxy) & {*cores.backend, *cores.load}
    if len(available) > workers + 1:
        assert not set(cores.backend) & set(cores.load)


def test_four_cores_are_divided_as_the_documents_say():
    """One worker leaves two cores to the load, two workers leave it one."""
    single = process.assign_cores((3, 2, 1, 0))
    double = process.assign_cores((0, 1, 2, 3), 2)

    assert (single.proxy, single.backend, single.load) == ((0,), (1,), (2, 3))
    assert (double.proxy, double.backend, double.load) == ((0, 1), (2,), (3,))


def test_memory_counts_a_process_and_all_under_it():
    """Memory that a child holds belongs to the tree above it."""
    holding = "held = bytearray(b'x' * 40_000_000); print(1, flush=True); input()"
    program = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {holding!r}], stdin=subprocess.PIPE)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()

        held_mib = process.memory_mib(child.pid)

        child.communicate(b"\n")
    assert 38 < held_mib < 200


def test_a_child_is_pinned_and_ended():
    """A child runs on its core alone and is gone when it is no longer needed."""
    core = max(os.sched_getaffinity(0))
    mine = os.sched_getaffinity(0)
    with (
        tempfile.TemporaryFile() as log,
        process.child_process([sys.executable, "-c", "input()"], (core,), log=log) as child,
    ):
        assert os.sched_getaffinity(child.pid) == {core}
        assert os.sched_getaffinity(0) == mine

    assert child.returncode is not None


def test_those_that_sleep_do_nothing_and_wake_up():
    """With all under them; one that has ended meanwhile is no mistake."""
    program = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()"])
child.wait()
{BUSY}
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            ended.wait()
        with process.asleep([child.pid, ended.pid]):
            below = process.family(child.pid)
            states = until(lambda: [state(pid) for pid in below], ["T", "T"])
        child.communicate(b"\n", timeout=20)  # which ends both

    assert states == ["T", "T"]
    assert child.returncode == 0


def state(pid: int) -> str:
    """One letter, as the kernel has it."""
    return (process.PROC / str(pid) / "stat").read_text().rpartition(") ")[2][0]


def until(look: Callable[[], list[str]], wanted: list[str]) -> list[str]:
    """What is seen in the end: a signal takes a moment."""
    give_up_s = time.monotonic() + 20
    while (seen := look()) != wanted and time.monotonic() < give_up_s:
        pass
    return seen


def test_a_free_port_can_be_listened_on():
    """Two ports asked for one after the other are real ports."""
    assert 1024 <= process.free_port() <= 65535
