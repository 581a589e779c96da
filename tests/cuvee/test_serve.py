"""`cuvee serve` under a service manager: the life of a unit, by the protocol."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux")
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0
# The sockets have the numbers from 3 on, and the number of the process is known only inside it.
ENTER = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.executable, "
ENTER += "[sys.executable, '-m', 'cuvee', 'serve', '--config', sys.argv[1]])"
CONFIG = """
gateway: {{host: 127.0.0.1, port: {port}, admin_port: {admin}, drain_delay_s: 0, drain_s: 3}}
models: {{llama-3-8b: {{slo: {{ttft_s: 2.0, tpot_s: 0.12}}}}}}
prices: aws-2026-07
pools:
  h100: {{model: llama-3-8b, profile: llama-3-8b/H100, backends: ["http://127.0.0.1:9"]}}
"""


@dataclass
class Unit:
    """What the manager hears, and the ports that it listens on."""

    notified: socket.socket
    data: int
    admin: int
    process: subprocess.Popen[bytes]

    def hears(self, first: str) -> dict[str, str]:
        """The next message with this line; those before it are left out."""
        while True:
            lines = self.notified.recv(4096).decode().splitlines()
            if first in lines:
                return dict(line.split("=", 1) for line in lines)

    def get(self, port: int, path: str) -> bytes:
        url = f"http://127.0.0.1:{port}{path}"
        return bytes(urllib.request.urlopen(url, timeout=LIMIT_S).read())


@contextlib.contextmanager
def unit(folder: Path) -> Iterator[Unit]:
    """A gateway that a manager has started, which listens already."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    data, admin = (held.getsockname()[1] for held in sockets)
    (folder / "cuvee.yaml").write_text(CONFIG.format(port=data, admin=admin))
    environment = os.environ | {
        "NOTIFY_SOCKET": f"{folder}/notify", "LISTEN_FDS": "2", "WATCHDOG_USEC": "200000"
    }  # fmt: skip

    def give() -> None:
        copies = [os.dup2(held.fileno(), 60 + n) for n, held in enumerate(sockets)]
        for number, copy in enumerate(copies):
            os.dup2(copy, 3 + number)

    with contextlib.ExitStack() as stack:
        for held in sockets:
            stack.enter_context(held)
        log = stack.enter_context((folder / "log").open("w"))
        notified = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notified.bind(f"{folder}/notify")
        notified.settimeout(LIMIT_S)
        process = subprocess.Popen(
            [sys.executable, "-c", ENTER, str(folder / "cuvee.yaml")],
            env=environment, cwd=ROOT, preexec_fn=give, pass_fds=(3, 4),
            stderr=log,
        )  # fmt: skip
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield Unit(notified, data, admin, process)


def test_the_life_of_a_unit(tmp_path: Path):
    """Sockets are served that listened before; the manager hears of the start, of life, of a reload
    and of the end, with the time that it takes."""
    with unit(tmp_path) as held:
        started = held.hears("READY=1")
        models = json.loads(held.get(held.data, "/v1/models"))
        live = held.get(held.admin, "/livez")
        held.hears("WATCHDOG=1")
        held.process.send_signal(signal.SIGHUP)
        reloading, ready = held.hears("RELOADING=1"), held.hears("READY=1")
        held.process.send_signal(signal.SIGTERM)
        stopping = held.hears("STOPPING=1")
        code = held.process.wait(LIMIT_S)
    log = (tmp_path / "log").read_text()

    assert started["MAINPID"] == ready["MAINPID"] == str(held.process.pid)
    assert started["STATUS"] == f"serves port {held.data}"
    assert [model["id"] for model in models["data"]] == ["llama-3-8b"]
    assert live
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert float(stopping["EXTEND_TIMEOUT_USEC"]) == 18e6  # drain_s, and 15 s for the workers
    assert (code, "Traceback" in log) == (0, False)


@contextlib.contextmanager
def its_end(process: int) -> Iterator[int]:
    """A descriptor that can be read once a process has ended; what has not by then is killed."""
    ended = os.pidfd_open(process)
    try:
        yield ended
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        os.close(ended)


@pytest.mark.long
def test_a_successor_becomes_the_main_process(tmp_path: Path):
    """At SIGUSR2: the manager hears of it before the old process ends, which tells of no end; the
    port is served all the time."""
    with unit(tmp_path) as held:
        first = held.hears("READY=1")["MAINPID"]
        held.process.send_signal(signal.SIGUSR2)
        second = held.hears("READY=1")["MAINPID"]
        with its_end(int(second)) as ended:
            running = held.process.poll() is None
            code = held.process.wait(LIMIT_S)
            live = held.get(held.data, "/livez")
            os.kill(int(second), signal.SIGTERM)
            stopping = held.hears("STOPPING=1")
            select.select([ended], [], [], LIMIT_S)
    log = (tmp_path / "log").read_text()

    assert first == str(held.process.pid) != second
    assert (running, code) == (True, 0)
    assert live
    assert stopping["STATUS"].startswith("drains")
    assert "is to take over" in log
    assert "Traceback" not in log
