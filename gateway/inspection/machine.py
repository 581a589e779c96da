"""Whether this machine can run what is configured: ports, files, CPUs, memory, disk, clock."""

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

from gateway import runtime
from gateway.config.load import Loaded
from gateway.inspection.examined import CheckGroup, Examined

GROUP = CheckGroup("machine", "docs/performance.md")
FEW_FILES, TOO_FEW_FILES = 8192, 1024
WORKER_MIB, CONTROL_MIB = 90, 120  # resident, with some hundred backends
FEW_PORTS = 10_000  # for connections to engines: one each, and a minute until it can be used again
SHORT_BACKLOG = 1024
SPARE_BYTES = 64 << 20
SKEW_S = 5.0
MIB = 1 << 20


class HostMachine(NamedTuple):
    """What this machine has; `None` is unknown. cpus: that this process may use, by affinity and
    quota. memory_mib: that is free. files: most that may be open. ports: for outgoing connections.
    backlog: of connections that wait to be accepted."""

    cpus: float
    memory_mib: int | None
    files: int
    ports: int | None
    backlog: int | None
    data_path: str
    stale: int = 0
    optimised: bool | None = None


def here() -> HostMachine:
    """This machine, and this installation."""
    files = runtime.hard_files()
    return HostMachine(
        cpus=_cpus(),
        memory_mib=_memory_mib(),
        files=files,
        ports=_port_range(),
        backlog=_number(Path("/proc/sys/net/core/somaxconn")),
        data_path=runtime.data_path(),
        stale=len(runtime.stale()),
        optimised=runtime.optimised(),
    )


def of_machine(machine: HostMachine, loaded: Loaded) -> Iterator[Examined]:
    """Whether there is enough of it."""
    settings = loaded.config.gateway
    workers = settings.workers
    yield _processors(machine, workers)
    yield _files(machine)
    yield from _memory(machine, loaded)
    if machine.stale:
        yield GROUP.error(
            "data path", f"{machine.stale} modules were changed after they were compiled",
            "`make compiled` compiles them again", "CONTRIBUTING.md",
        )  # fmt: skip
    elif machine.data_path != "compiled":
        yield GROUP.warning(
            "data path", "it is interpreted, which takes more CPU: `cuvee overhead` measures it",
            "`make compiled` in a checkout, or `pip install` where a C compiler is",
        )  # fmt: skip
    else:
        yield GROUP.fine("data path", "it is compiled")
    if machine.optimised is False:
        yield GROUP.note(
            "Python", "it was built without --enable-optimizations: up to a third more CPU",
            "a distribution's Python, or PYTHON_CONFIGURE_OPTS=--enable-optimizations",
        )  # fmt: skip
    else:
        yield GROUP.fine("Python", "it is an optimised build, as far as it says")
    if machine.ports is not None and machine.ports < FEW_PORTS:
        yield GROUP.warning(
            "outgoing ports", f"{machine.ports} for connections to engines",
            "raise net.ipv4.ip_local_port_range",
        )  # fmt: skip
    elif machine.ports is not None:
        yield GROUP.fine("outgoing ports", f"{machine.ports:,} for connections to engines")
    if machine.backlog is not None and machine.backlog < SHORT_BACKLOG:
        yield GROUP.warning(
            "backlog", f"{machine.backlog} connections may wait to be accepted",
            "raise net.core.somaxconn to 4096: a burst of clients is refused beyond it",
        )  # fmt: skip
    elif machine.backlog is not None:
        yield GROUP.fine("backlog", f"{machine.backlog:,} connections may wait to be accepted")


def of_ports(loaded: Loaded, serving: bool) -> Iterator[Examined]:
    """Whether the ports are free. serving: whether a gateway answers on the admin port, so that it
    is to be expected that they are not."""
    settings = loaded.config.gateway
    for key, host, port in (
        ("port", settings.host, settings.port),
        ("admin_port", settings.admin_host, settings.admin_port),
    ):
        fault = listening_fault(host, port)
        where = f"gateway.{key} {host}:{port}"
        if fault is None:
            yield GROUP.fine(key, f"{where} is free")
        elif serving and fault == os.strerror(errno.EADDRINUSE):
            yield GROUP.fine(key, f"{where} is served by a gateway that runs")
        else:
            yield GROUP.error(
                key, f"cannot listen on {where}: {fault}",
                f"another {key}, or end the program that has it (`ss -ltnp`)",
                "docs/configuration.md#gateway",
            )  # fmt: skip


def listening_fault(host: str, port: int) -> str | None:
    """Why nothing can listen there; `None` if it can."""
    try:
        passive = socket.AI_PASSIVE
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=passive)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
            one.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return None


def of_disk(loaded: Loaded) -> Iterator[Examined]:
    """Whether the files that the gateway writes can be written, and have room."""
    settings = loaded.config.gateway
    journal, trace = settings.journal, settings.trace
    wanted = [
        ("journal", loaded.journal, 0 if journal is None else 2 * journal.file_bytes),
        ("trace", loaded.trace, 0 if trace is None else trace.files * trace.file_bytes),
    ]
    anchor = "docs/operations.md#what-was-decided-and-why"
    for name, path, size in wanted:
        if path is None:
            continue
        hint = f"another path in gateway.{name}, or room and rights there"
        fault = writing_fault(path)
        if fault is not None:
            yield GROUP.error(name, f"{path}: {fault}", hint, anchor)
            continue
        free = shutil.disk_usage(path.parent).free
        if free < size + SPARE_BYTES:
            text = f"{path}: {free // MIB:,} MiB are free, it may take {size // MIB:,} MiB"
            yield GROUP.warning(name, text, hint, anchor)
        else:
            yield GROUP.fine(name, f"{path}: {free // MIB:,} MiB are free")


def writing_fault(path: Path) -> str | None:
    """Why a file cannot be written; `None` if it can. Writes nothing."""
    if not path.parent.is_dir():
        return "its folder is not there"
    place = path if path.exists() else path.parent
    return None if os.access(place, os.W_OK) else "may not be written by this user"


def of_clock(now_s: float, dates: dict[str, str]) -> Iterator[Examined]:
    """Whether this machine's clock agrees with those of others. dates: their `date` headers by who
    they are, taken at `now_s`."""
    skews: dict[str, float] = {}
    for who, text in dates.items():
        try:
            skews[who] = now_s - parsedate_to_datetime(text).timestamp()
        except ValueError:
            continue
    if not skews:
        return
    who, skew_s = min(skews.items(), key=lambda one: abs(one[1]))
    if abs(skew_s) > SKEW_S:
        way = "ahead of" if skew_s > 0 else "behind"
        yield GROUP.warning(
            "clock", f"it is {abs(skew_s):.0f} s {way} that of {who}",
            "let NTP set it: ages, certificates and keys follow the clock",
        )  # fmt: skip
    else:
        yield GROUP.fine("clock", f"it agrees with that of {who}")


def _processors(machine: HostMachine, workers: int) -> Examined:
    if workers > machine.cpus:
        return GROUP.warning(
            "processors", f"gateway.workers is {workers}, and there are {machine.cpus:g} CPUs",
            f"gateway.workers: {max(1, int(machine.cpus))}: more only take turns",
            "docs/scaling.md",
        )  # fmt: skip
    return GROUP.fine("processors", f"{machine.cpus:g} CPUs for {workers} workers")


def _files(machine: HostMachine) -> Examined:
    clients = runtime.most_clients(machine.files)
    text = f"at most {machine.files:,} files, which is {clients:,} clients for each worker"
    hint = "LimitNOFILE=1048576 in the systemd unit, or `ulimit -Hn`"
    if machine.files < TOO_FEW_FILES:
        return GROUP.error("open files", text, hint)
    if machine.files < FEW_FILES:
        return GROUP.warning("open files", text, hint)
    return GROUP.fine("open files", text)


def _memory(machine: HostMachine, loaded: Loaded) -> Iterator[Examined]:
    settings = loaded.config.gateway
    if machine.memory_mib is None:
        return
    buffers = settings.buffer_bytes or 16 * settings.max_body_bytes
    least = CONTROL_MIB + settings.workers * WORKER_MIB
    most = least + settings.workers * buffers // MIB
    if machine.memory_mib < least:
        yield GROUP.error(
            "memory", f"{machine.memory_mib:,} MiB are free, {least:,} are needed at least",
            "fewer gateway.workers, or more memory",
        )  # fmt: skip
    elif machine.memory_mib < most:
        yield GROUP.note(
            "memory", f"{machine.memory_mib:,} MiB are free; with full buffers {most:,} are used",
            "a smaller gateway.buffer_bytes, if clients send large bodies",
        )  # fmt: skip
    else:
        yield GROUP.fine("memory", f"{machine.memory_mib:,} MiB are free, {most:,} may be used")


def _cpus() -> float:
    """CPUs by affinity, or by the quota of the control group if that is less."""
    own = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 1.0
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(own, int(quota) / int(period))
    except (OSError, ValueError):  # no such file, or `max`
        return own


def _memory_mib() -> int | None:
    """Free memory, as Linux counts it, or as the control group leaves it."""
    found: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable")]
    except (OSError, ValueError):
        return None
    limit = _number(Path("/sys/fs/cgroup/memory.max"))
    used = _number(Path("/sys/fs/cgroup/memory.current"))
    if limit is not None and used is not None:
        found.append((limit - used) // MIB)
    return min(found, default=None)


def _port_range() -> int | None:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(high) - int(low) + 1
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
