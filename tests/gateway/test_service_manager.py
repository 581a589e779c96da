"""What a service manager is told and gives, by its own protocol on a real socket."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.service_manager import ServiceManager

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux")
# A process as systemd starts it: its sockets have the numbers from 3 on.
GIVEN = """
import os, sys
from gateway.service_manager import ServiceManager
numbers = [int(n) for n in sys.argv[1:]]
copies = [os.dup2(n, 50 + i) for i, n in enumerate(numbers)]
for i, n in enumerate(copies): os.dup2(n, 3 + i)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(numbers))}
os.environ["LISTEN_FDNAMES"] = "a:b"
manager = ServiceManager(os.environ)
print([s.getsockname()[1] for s in manager.sockets])
print([os.get_inheritable(s.fileno()) or s.getblocking() for s in manager.sockets])
print([name for name in os.environ if name.startswith("LISTEN_")])
"""  # fmt: skip


@pytest.fixture(params=["path", "abstract"])
def heard(request, tmp_path: Path):
    """The address of a manager's socket, and a way to read what it was told."""
    address = f"@cuvee-test-{os.getpid()}" if request.param == "abstract" else f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        held.bind(address.replace("@", "\0"))
        held.settimeout(10)
        yield address, lambda: held.recv(4096).decode().splitlines()


def test_it_is_told_of_a_life(heard):
    """Each in the words of sd_notify(3)."""
    address, told = heard
    manager = ServiceManager({"NOTIFY_SOCKET": address})

    manager.ready("serves port 8000")
    assert told() == [f"MAINPID={os.getpid()}", "READY=1", "STATUS=serves port 8000"]
    manager.reloading(12.5)
    assert told() == ["RELOADING=1", "MONOTONIC_USEC=12500000"]
    manager.stopping(45.0, "drains")
    assert told() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=45000000", "STATUS=drains"]


def test_what_matters_waits_until_there_is_room(heard):
    """Signs of life are left out while a manager has not read those before; the end is told."""
    address, told = heard
    manager = ServiceManager({"NOTIFY_SOCKET": address})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"WATCHDOG=1", address.replace("@", "\0"))
    with ThreadPoolExecutor(1) as beside:
        stopping = beside.submit(manager.stopping, 45.0, "drains")
        while told()[0] != "STOPPING=1":
            pass
        stopping.result(10)


async def test_it_hears_that_the_process_is_alive_until_it_is_replaced(heard):
    """Twice in the time that it grants; never for a successor."""
    address, told = heard
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"}
    manager = ServiceManager(environment | {"WATCHDOG_PID": str(os.getpid())})
    replaced = asyncio.Event()
    attesting = asyncio.create_task(manager.attest(replaced))

    assert manager.watchdog_s == 0.01
    assert [await asyncio.to_thread(told) for _ in range(3)] == [["WATCHDOG=1"]] * 3
    replaced.set()
    await attesting


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "often"},
        {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"},  # meant for another process
        {"LISTEN_FDS": "2", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "2"},
    ],
)
async def test_what_is_not_for_this_process_is_left(environment):
    """And without a manager nothing happens."""
    manager = ServiceManager(dict(environment))
    manager.ready("serves")
    await asyncio.wait_for(manager.attest(asyncio.Event()), 5)
    await asyncio.wait_for(manager.leave(), 1)

    assert manager.watchdog_s is None
    assert manager.sockets == ()


@pytest.mark.parametrize("address", ["/nowhere/at/all", "@nobody-listens-here", "vsock:2:1234"])
def test_a_manager_that_is_gone_does_no_harm(address):
    """A line in the log at most."""
    ServiceManager({"NOTIFY_SOCKET": address}).ready("serves")


def test_sockets_that_were_passed_are_taken():
    """In their order; children get neither them nor the variables, and what is no socket of TCP is
    left out."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with held[0], held[1], datagram, Path(__file__).open() as file:
        numbers = [held[0].fileno(), file.fileno(), datagram.fileno(), held[1].fileno()]
        done = subprocess.run(
            [sys.executable, "-c", GIVEN, *map(str, numbers)],
            pass_fds=numbers,
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        ports = [one.getsockname()[1] for one in held]

    assert done.stdout.splitlines() == [str(ports), "[False, False]", "[]"]
