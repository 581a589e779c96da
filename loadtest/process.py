"""Child processes of a benchmark: start, pin to cores, stop, and read CPU time and memory.

Linux only: figures come from `/proc`. Knows nothing of what the processes do.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gateway.runtime import without_signals

PROC = Path("/proc")
STOP_S = 5.0  # for a clean exit after SIGTERM; then SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Core numbers by role: one mock process per backend core, one generator per load core."""

    proxy: tuple[int, ...]
    backend: tuple[int, ...]
    load: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """One line of `/proc/PID/stat`. waited: of children that have ended and were waited for."""

    pid: int
    parent: int
    niceness: int
    user_ticks: int
    system_ticks: int
    waited_user_ticks: int = 0
    waited_system_ticks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTime:
    """CPU seconds in user mode and in the kernel.

    background_s: both, of descendants that are nicer than their root. They take what is left over,
    so how much they took says nothing about what the work of the others costs.
    """

    user_s: float
    system_s: float
    background_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Without the background."""
        return self.user_s + self.system_s


def assign_cores(cores: Sequence[int], workers: int = 1) -> Cores:
    """Give the first cores to the proxy, one per worker, and a third of the rest to the backend.

    Four cores and one worker make one, one and two (docs/performance.md). With fewer cores than
    workers + 2, backend and load generator share the last core; a single core runs everything.
    """
    ordered = tuple(sorted(cores))
    proxies = max(1, min(workers, len(ordered) - 1))
    rest = ordered[proxies:] or ordered
    backends = max(1, len(rest) // 3)
    return Cores(
        proxy=ordered[:proxies], backend=rest[:backends], load=rest[backends:] or rest[-1:]
    )


def parse_stat(text: str) -> ProcessStat:
    """Read the content of `/proc/PID/stat`."""
    pid = int(text[: text.index(" ")])
    # The second field is the command's name in parentheses; it may hold spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    # proc(5) counts from 1: ppid is 4, utime, stime, cutime, cstime are 14–17, nice is 19; ours
    # begin with 3.
    user, system, waited_user, waited_system = map(int, fields[11:15])
    return ProcessStat(
        pid=pid,
        parent=int(fields[1]),
        niceness=int(fields[16]),
        user_ticks=user,
        system_ticks=system,
        waited_user_ticks=waited_user,
        waited_system_ticks=waited_system,
    )


def process_tree(stats: Sequence[ProcessStat], root: int) -> tuple[ProcessStat, ...]:
    """The process `root` and all its descendants; empty if it has ended."""
    tree = [stat for stat in stats if stat.pid == root]
    for parent in tree:  # the list grows while it is walked, so grandchildren are reached too
        tree += [stat for stat in stats if stat.parent == parent.pid]
    return tuple(tree)


def family(root: int) -> tuple[int, ...]:
    """The ids of the process `root` and all its descendants; empty if it has ended."""
    return tuple(stat.pid for stat in process_tree(tuple(_stats()), root))


def snapshot(root: int) -> tuple[ProcessStat, ...]:
    """A process and its descendants now; empty if it has ended."""
    return process_tree(tuple(_stats()), root)


def cpu_between(
    before: Sequence[ProcessStat], after: Sequence[ProcessStat], tick_s: float | None = None
) -> CpuTime:
    """CPU time that a process, the first, and its descendants have used between two snapshots, in
    steps of a tick (10 ms); none if it has ended. before: may be empty, for all until `after`.

    Unlike requests per second it hardly depends on what else runs on the machine. Over two seconds
    at a tenth of a core, a tick is an error of 5 %. Where one is nicer than the first, children
    that have ended count as background: one that was nicer leaves all that it ever used to its
    parent at its end. tick_s: seconds to a tick; `None`: those of this machine.
    """
    if not after:
        return CpuTime(user_s=0.0, system_s=0.0)
    tick_s = tick_s or 1 / os.sysconf("SC_CLK_TCK")
    usual = after[0].niceness
    mixed = any(stat.niceness > usual for stat in (*before, *after))
    gone = 0  # ticks that those had used before which have ended since
    if mixed:  # they are in no figure of those that count, but in the background's
        there = {stat.pid for stat in after}
        gone = sum(_ticks(stat) for stat in before if stat.pid not in there)
        before = [stat for stat in before if stat.pid in there]
    then, now = (_used(tree, usual, waited=not mixed) for tree in (before, after))
    user, system, background = (tick_s * (b - a) for a, b in zip(then, now, strict=True))
    background = max(0.0, background - tick_s * gone)
    return CpuTime(user_s=user, system_s=system, background_s=background)


def _ticks(stat: ProcessStat) -> int:
    own = stat.user_ticks + stat.system_ticks
    return own + stat.waited_user_ticks + stat.waited_system_ticks


def _used(tree: Sequence[ProcessStat], usual: int, *, waited: bool) -> tuple[int, int, int]:
    """Ticks in user mode, in the kernel, and of the background. usual: niceness of what is none.
    waited: whether the time of children that have ended is none either."""
    user = system = background = 0
    for stat in tree:
        own = stat.user_ticks, stat.system_ticks
        left = stat.waited_user_ticks, stat.waited_system_ticks
        if stat.niceness > usual:
            background += _ticks(stat)
            continue
        user, system = user + own[0], system + own[1]
        if waited:
            user, system = user + left[0], system + left[1]
        else:
            background += sum(left)
    return user, system, background


def memory_mib(root: int) -> float:
    """Proportional set size of a process and its descendants, in MiB.

    PSS divides a shared page among its users, so the pages that workers share count once.
    """
    return sum(_pss_kib(stat.pid) for stat in process_tree(tuple(_stats()), root)) / 1024


def free_port() -> int:
    """A loopback port on which no process listens now; another process may take it before us."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def child_process(
    argv: Sequence[str],
    cores: Sequence[int],
    *,
    log: IO[bytes],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child pinned to `cores` with its output in `log`; stop it on leaving.

    env: variables on top of this process's own.
    """
    with pinned(cores), without_signals(signal.SIGINT):
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
    try:
        yield child
    finally:
        stop(child)


@contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Pin the children started inside to `cores`; this process moves there meanwhile.

    The mask is inherited, so a child has it from its first instruction: a runtime that asks for the
    number of cores at its start (Rust's, nginx's) makes the right number of threads.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def asleep(roots: Sequence[int]) -> Iterator[None]:
    """Let processes and their descendants do nothing meanwhile, not even beside others."""
    stopped: list[int] = []
    try:
        for root in roots:
            stopped.append(root)
            _signal(root, signal.SIGSTOP)  # first, so that it starts no more of them
            below = family(root)[1:]
            stopped += below
            for pid in below:
                _signal(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            _signal(pid, signal.SIGCONT)


def stop(child: subprocess.Popen[bytes]) -> None:
    """Terminate a child; kill it if it has not ended after `STOP_S`."""
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.kill(pid, number)


def _stats() -> Iterator[ProcessStat]:
    """Every process of the machine."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                yield parse_stat((entry / "stat").read_text())
            except OSError:  # the process has ended since the folder was listed
                continue


def _pss_kib(pid: int) -> int:
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:  # the process has ended since it was listed
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
