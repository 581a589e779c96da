"""What a process of this machine uses, as Linux tells it in /proc (proc(5)).

Any process may be asked, so that workers do not have to report it.
"""

import os
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from gateway.telemetry.stats_schema import ProcessUsage

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def usages(pids: Mapping[str, int | None]) -> dict[str, ProcessUsage]:
    """What these processes use, by name; without those that are not there."""
    found = {name: usage(pid) for name, pid in pids.items() if pid is not None}
    return {name: used for name, used in found.items() if used is not None}


def usage(pid: int) -> ProcessUsage | None:
    """What the process with this id uses; `None` if it has ended, or where there is no /proc."""
    folder = Path("/proc", str(pid))
    try:
        # The name of the program, in parentheses, may contain spaces and parentheses itself.
        fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        descriptors = _entries(folder / "fd")
    except OSError:
        return None
    user, system, started, pages = (int(fields[n]) for n in (11, 12, 19, 21))
    return ProcessUsage(
        cpu_s=(user + system) / TICKS_PER_S,
        resident_bytes=pages * PAGE_BYTES,
        open_files=descriptors,
        started_at_s=_booted_at_s() + started / TICKS_PER_S,
    )


def _entries(folder: Path) -> int:
    """The number of entries of /proc/PID/fd; from Linux 6.2 on its size tells it, which is quick
    for a hundred thousand files too."""
    return folder.stat().st_size or len(os.listdir(folder))


@cache
def _booted_at_s() -> float:
    """Unix time at which the machine started."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
