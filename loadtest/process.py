"""Child processes of a benchmark: starting, pinning, ending, and the CPU time used. Linux only.

Knows nothing of what the processes do.
"""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROC = Path("/proc")
ENDING_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which cores run what. With two or more cores the proxy has one to itself."""

    proxy: tuple[int, ...]
    backend: tuple[int, ...]
    load: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """One process. cpu_ticks: user and system, with the children it has waited for."""

    pid: int
    parent: int
    cpu_ticks: int


def divide(cores: Sequence[int]) -> Cores:
    """The first core for the proxy, the next for the backend, up to two more for the load."""
    first, *rest = sorted(cores)
    if not rest:
        return Cores(proxy=(first,), backend=(first,), load=(first,))
    backend, *load = rest
    return Cores(proxy=(first,), backend=(backend,), load=tuple(load[:2] or rest))


def parse(text: str) -> Stat:
    """Reads `/proc/PID/stat`; the command's name, in parentheses, may contain anything."""
    pid = int(text[: text.index(" ")])
    fields = text[text.rindex(")") + 2 :].split()
    # proc(5) counts from 1: ppid is 4, utime, stime, cutime, cstime are 14–17; ours begin with 3.
    return Stat(pid=pid, parent=int(fields[1]), cpu_ticks=sum(map(int, fields[11:15])))


def tree(stats: Sequence[Stat], root: int) -> tuple[Stat, ...]:
    """The process `root` and everything under it."""
    found = [stat for stat in stats if stat.pid == root]
    for parent in found:  # grows while it is walked
        found += [stat for stat in stats if stat.parent == parent.pid]
    return tuple(found)


def cpu_s(root: int) -> float:
    """CPU seconds that a process and its descendants have used, in clock ticks (10 ms)."""
    ticks = sum(stat.cpu_ticks for stat in tree(tuple(_stats()), root))
    return ticks / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    argv: Sequence[str], cores: Sequence[int], *, log: IO[bytes], cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child pinned to cores, its output in `log`; ended on leaving, by force if it must be."""
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd)
    try:
        os.sched_setaffinity(child.pid, cores)
        yield child
    finally:
        end(child)


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
