"""Child processes of a benchmark: start, pin to cores, stop, and read CPU time and memory.

Linux only: figures come from `/proc`. Knows nothing of what the processes do.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    """One line of `/proc/PID/stat`. Ticks include those of children that were waited for."""

    pid: int
    parent: int
    niceness: int
    user_ticks: int
    system_ticks: int


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

    def __sub__(self, other: "CpuTime") -> "CpuTime":
        return CpuTime(
            user_s=self.user_s - other.user_s,
            system_s=self.system_s - other.system_s,
            background_s=self.background_s - other.background_s,
        )


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
        user_ticks=user + waited_user,
        system_ticks=system + waited_system,
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


def cpu_time(root: int) -> CpuTime:
    """CPU time that a process and its descendants have used so far, in steps of a tick (10 ms).

    Unlike requests per second it hardly depends on what else runs on the machine. Over two seconds
    at a tenth of a core, a tick is an error of 5 %.
    """
    return cpu_of(process_tree(tuple(_stats()), root), 1 / os.sysconf("SC_CLK_TCK"))


def cpu_of(tree: Sequence[ProcessStat], tick_s: float) -> CpuTime:
    """CPU time of a process, the first, and its descendants; none of an empty tree.

    tick_s: seconds to a tick.
    """
    ahead = [stat for stat in tree if stat.niceness <= tree[0].niceness]
    behind = [stat for stat in tree if stat.niceness > tree[0].niceness]
    return CpuTime(
        user_s=tick_s * sum(stat.user_ticks for stat in ahead),
        system_s=tick_s * sum(stat.system_ticks for stat in ahead),
        background_s=tick_s * sum(stat.user_ticks + stat.system_ticks for stat in behind),
    )


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


def stop(child: subprocess.Popen[bytes]) -> None:
    """Terminate a child; kill it if it has not ended after `STOP_S`."""
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


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
