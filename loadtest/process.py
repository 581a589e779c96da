"""Child processes of a benchmark: starting, pinning, ending, CPU time and memory used. Linux only.

Knows nothing of what the processes do.
"""

import os
import resource
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROC = Path("/proc")
ENDING_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which cores run what: a mock per backend core, a load generator per load core."""

    proxy: tuple[int, ...]
    backend: tuple[int, ...]
    load: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """One process. Ticks include the children that it has waited for."""

    pid: int
    parent: int
    user_ticks: int
    system_ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """CPU seconds: outside and inside the kernel."""

    user_s: float
    system_s: float

    @property
    def total_s(self) -> float:
        return self.user_s + self.system_s

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(user_s=self.user_s - other.user_s, system_s=self.system_s - other.system_s)


def divide(cores: Sequence[int], workers: int = 1) -> Cores:
    """The first cores for the proxy, one for each worker; of the rest a third for the backend.

    With fewer cores than workers + 2, backend and load share the last one; a single core runs all.
    """
    ordered = tuple(sorted(cores))
    proxies = max(1, min(workers, len(ordered) - 1))
    rest = ordered[proxies:] or ordered
    backends = max(1, len(rest) // 3)
    return Cores(
        proxy=ordered[:proxies], backend=rest[:backends], load=rest[backends:] or rest[-1:]
    )


def parse(text: str) -> Stat:
    """Reads `/proc/PID/stat`; the command's name, in parentheses, may contain anything."""
    pid = int(text[: text.index(" ")])
    fields = text[text.rindex(")") + 2 :].split()
    # proc(5) counts from 1: ppid is 4, utime, stime, cutime, cstime are 14–17; ours begin with 3.
    user, system, waited_user, waited_system = map(int, fields[11:15])
    return Stat(
        pid=pid,
        parent=int(fields[1]),
        user_ticks=user + waited_user,
        system_ticks=system + waited_system,
    )


def tree(stats: Sequence[Stat], root: int) -> tuple[Stat, ...]:
    """The process `root` and everything under it."""
    found = [stat for stat in stats if stat.pid == root]
    for parent in found:  # grows while it is walked
        found += [stat for stat in stats if stat.parent == parent.pid]
    return tuple(found)


def cpu(root: int) -> Cpu:
    """What a process and its descendants have used, in clock ticks (10 ms)."""
    found, tick_s = tree(tuple(_stats()), root), 1 / os.sysconf("SC_CLK_TCK")
    return Cpu(
        user_s=tick_s * sum(stat.user_ticks for stat in found),
        system_s=tick_s * sum(stat.system_ticks for stat in found),
    )


def memory_mib(root: int) -> float:
    """What a process and its descendants hold of RAM: what they share is counted once (PSS)."""
    return sum(_pss_kib(stat.pid) for stat in tree(tuple(_stats()), root)) / 1024


def open_files() -> int:
    """How many files a process of ours may open, after raising that as far as we may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    argv: Sequence[str],
    cores: Sequence[int],
    *,
    log: IO[bytes],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child pinned to cores, its output in `log`; ended on leaving, by force if it must be."""
    with pinned(cores):
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
        end(child)


@contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Children started in here run on these cores from their first instruction.

    A runtime that asks for the number of cores at its start then makes the right number of threads.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end(child: subprocess.Popen[bytes]) -> None:
    """Asks a child to stop, and kills it when it does not within some seconds."""
    child.terminate()
    try:
        child.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _stats() -> Iterator[Stat]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                yield parse((entry / "stat").read_text())
            except OSError:  # it ended meanwhile
                continue


def _pss_kib(pid: int) -> int:
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:  # it ended meanwhile
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
