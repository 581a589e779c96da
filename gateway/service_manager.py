"""The service manager that runs a gateway, such as systemd: what it is told, what it gives.

The protocols are sd_notify(3) and sd_listen_fds(3): lines in a datagram, and sockets whose number
is in the environment. Where there is no service manager nothing is told, and nothing given.
"""

import asyncio
import logging
import os
import socket
from collections.abc import MutableMapping

log = logging.getLogger("cuvee")

LINGER_S = 2.0
# For a place among the messages that the manager has not read yet (10, as Linux comes): without
# READY a unit never starts. A manager that does not read must not stop requests for longer.
PATIENCE_S = 0.5
FIRST = 3  # descriptor of the first socket (SD_LISTEN_FDS_START)
MICROSECONDS = 1_000_000
# What only the first process of a unit may take for its own; NOTIFY_SOCKET and WATCHDOG_USEC are
# for its successors in the unit too.
OF_ONE_PROCESS = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")


class ServiceManager:
    """What runs this process. watchdog_s: how often it wants to hear that the process is alive, in
    seconds; `None`: it does not. sockets: that it listens on, for this process to accept from."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """environment: of the process; what is for this process alone is taken out of it, so that
        no child takes it for its own."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environment)
        self.sockets = _given(environment)
        for name in (*OF_ONE_PROCESS, "WATCHDOG_PID"):
            environment.pop(name, None)

    def __repr__(self) -> str:
        return f"<ServiceManager at {self._address or 'nowhere'}, {len(self.sockets)} sockets>"

    def ready(self, status: str) -> None:
        """This process serves; from now on it is the main one of its unit, also where it has taken
        over from another. status: one line for people."""
        self._tell(f"MAINPID={os.getpid()}", "READY=1", f"STATUS={status}")

    def reloading(self, now_s: float) -> None:
        """The configuration is read again, until `ready`. now_s: of the monotonic clock."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={int(now_s * MICROSECONDS)}")

    def stopping(self, patience_s: float, status: str) -> None:
        """This process ends, within so many seconds."""
        extension = f"EXTEND_TIMEOUT_USEC={int(patience_s * MICROSECONDS)}"
        self._tell("STOPPING=1", extension, f"STATUS={status}")

    async def attest(self, replaced: asyncio.Event) -> None:
        """Say again and again that the event loop turns, until another process serves: it says so
        for itself, and nobody may say it for one that hangs."""
        while self.watchdog_s is not None and not replaced.is_set():
            self._tell("WATCHDOG=1", wait_s=0.0)
            await asyncio.sleep(self.watchdog_s)

    async def leave(self) -> None:
        """Before the end of a process that was replaced: the unit ends with its main process, and
        its successor may not have said yet that it is that one."""
        if self._address:
            await asyncio.sleep(LINGER_S)

    def _tell(self, *lines: str, wait_s: float = PATIENCE_S) -> None:
        if not self._address.startswith(("/", "@")):  # none, or one of a virtual machine's host
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(wait_s)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("the service manager was not told %s: %s", lines[0], error)


def _watchdog_s(environment: MutableMapping[str, str]) -> float | None:
    """Half of the time after which the process counts as hung (sd_watchdog_enabled(3))."""
    limit, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not limit.isdecimal() or int(limit) == 0 or process not in ("", str(os.getpid())):
        return None
    return int(limit) / MICROSECONDS / 2


def _given(environment: MutableMapping[str, str]) -> tuple[socket.socket, ...]:
    """The stream sockets that were passed to this process. Closes others, which nobody serves."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return ()
    given = []
    for number in range(FIRST, FIRST + int(count)):
        try:
            held = socket.socket(fileno=number)
        except OSError as error:
            log.warning("descriptor %d of the service manager is no socket: %s", number, error)
            continue
        os.set_inheritable(number, False)
        if held.type == socket.SOCK_STREAM and held.family in (socket.AF_INET, socket.AF_INET6):
            held.setblocking(False)
            given.append(held)
        else:
            log.warning("descriptor %d of the service manager is no socket of TCP", number)
            held.close()
    return tuple(given)
