"""The set-ups that the overhead benchmark compares: started, pinned and known to answer.

Knows the gateway by its command line and its configuration file alone.
"""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec

from loadtest import mock, process
from loadtest.measure import DIRECT, REFERENCE
from loadtest.process import Cores

GATEWAY = "cuvee"
PROXIES = (REFERENCE, GATEWAY)
ROOT = Path(__file__).resolve().parent.parent  # where `-m cuvee` and `-m loadtest…` are found
READY_S = 30.0
PROBE_S = 0.1
LOG_CHARS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Something that answers on a port. pid: of the proxy whose CPU counts, `None` for none."""

    name: str
    port: int
    pid: int | None


class NotReady(Exception):
    """A process that did not come to answer; the message holds the end of its output."""


def haproxy_config(port: int, backend_port: int) -> str:
    """One thread, kept-alive connections on both sides, no logging.

    Without `http-no-delay` HAProxy holds a stream's first chunks back for up to 200 ms and sends
    several at once: cheap, but not what a stream is for.
    """
    return f"""\
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    option http-keep-alive
    option http-no-delay
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend clients
    bind 127.0.0.1:{port}
    default_backend engines
backend engines
    server mock 127.0.0.1:{backend_port}
"""


def gateway_config(port: int, backend_port: int, folder: Path) -> str:
    """One pool with one backend, and promises too loose to refuse anything."""
    profile = folder / "profile.yaml"
    profile.write_text(
        "format: cuvee-profile/1\norigin: analytic\ngpu: H100\nmodel: Llama-3-8B\n"
        "engine: vllm-v1\nmax_num_seqs: 4096\n"
    )
    config = {
        "models": {mock.MODEL: {"slo": {"ttft_s": 5.0, "tpot_s": 1.0, "attainment": 0.99}}},
        "pools": {
            "bench": {
                "model": mock.MODEL,
                "profile": str(profile),
                "usd_per_hour": 1.0,
                "backends": [f"http://127.0.0.1:{backend_port}"],
            }
        },
        "gateway": {"host": "127.0.0.1", "port": port},
    }
    return msgspec.yaml.encode(config).decode()


def start(
    stack: ExitStack,
    folder: Path,
    cores: Cores,
    proxies: Sequence[str],
    *,
    chunks: int,
    interval_s: float,
) -> tuple[tuple[Setup, ...], dict[str, str]]:
    """Starts the mock backend and every wanted proxy; those that are not there, with the reason.

    stack: ends them all. folder: for configurations and logs. proxies: HAProxy, gateway or both.
    chunks, interval_s: of the mock's streams. Raises NotReady.
    """
    backend_port = process.free_port()
    interval = ("--chunks", str(chunks), "--interval-ms", str(1e3 * interval_s))
    mocked = (sys.executable, "-m", "loadtest.mock", "--port", str(backend_port), *interval)
    stack.enter_context(answering("mock", mocked, backend_port, cores.backend, folder))
    setups, skipped = [Setup(name=DIRECT, port=backend_port, pid=None)], {}
    for name, program, write in (
        (REFERENCE, haproxy(), _haproxy_argv),
        (GATEWAY, find_spec("cuvee"), _gateway_argv),
    ):
        if name not in proxies:
            continue
        if program is None:
            skipped[name] = "not installed"
            continue
        port = process.free_port()
        argv = write(port, backend_port, folder)
        child = stack.enter_context(answering(name, argv, port, cores.proxy, folder))
        setups.append(Setup(name=name, port=port, pid=child.pid))
    return tuple(setups), skipped


def haproxy() -> str | None:
    """Where HAProxy is; Debian keeps it off a user's PATH."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _haproxy_argv(port: int, backend_port: int, folder: Path) -> tuple[str, ...]:
    path = folder / "haproxy.cfg"
    path.write_text(haproxy_config(port, backend_port))
    return haproxy() or "haproxy", "-db", "-q", "-f", str(path)


def _gateway_argv(port: int, backend_port: int, folder: Path) -> tuple[str, ...]:
    path = folder / "cuvee.yaml"
    path.write_text(gateway_config(port, backend_port, folder))
    return sys.executable, "-m", "cuvee", "serve", "--config", str(path)


@contextmanager
def answering(
    name: str, argv: Sequence[str], port: int, cores: Sequence[int], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that answers a chat request with 200 by the time it is handed out."""
    path = folder / f"{name}.log"
    with path.open("wb") as log, process.running(argv, cores, log=log, cwd=ROOT) as child:
        until_s = time.monotonic() + READY_S
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > until_s:
                tail = path.read_text(errors="replace")[-LOG_CHARS:]
                raise NotReady(f"{name} does not answer on port {port}:\n{tail}")
            time.sleep(PROBE_S)
        yield child


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S / 3)
    body = {"model": mock.MODEL, "messages": [{"role": "user", "content": "hello"}]}
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
