"""Real and emulated engines and a gateway before them, as processes that end with their test."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.real import environments
from tests.real.cases import CONTEXT, MODEL
from tests.real.environments import HERE, ROOT

KEY = "sk-real-engines"
SEQUENCES = 8  # at a time in the batch
QUEUED = 24  # beyond so many, running and waiting, the engine refuses
VLLM_START_S = 300.0  # 25 s on an idle core, 100 s on two busy ones
START_S = 60.0
STOP_S = 20.0
POLL_S = 0.05
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
}
# A gateway that promises nothing that a busy machine could not keep.
CONFIG = """\
models:
  {model}:
    slo: {{ttft_s: 20.0, tpot_s: 2.0}}
pools:
  real:
    model: {model}
    profile: llama-3-8b/H100
    usd_per_hour: 1.0
{pool}
{discovery}planner: {{certify_cpu_s: 0}}
gateway:
  host: 127.0.0.1
  port: {port}
  admin_port: {admin_port}
  drain_delay_s: 0
  drain_s: 1
  scrape_interval_s: 0.2
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs. key: what it asks for; events_port: where an engine tells what is in its
    cache. admin: the URL of a gateway's admin port."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    key: str | None = None
    events_port: int = 0
    admin: str = ""

    @property
    def headers(self) -> dict[str, str | None]:
        return {} if self.key is None else {"authorization": f"Bearer {self.key}"}


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it holds before so many seconds are over."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@contextmanager
def process(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its output in `log`; it and all that it started end with the block."""
    known = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "HOME": os.environ["HOME"]}
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, cwd=ROOT, env={**known, **(environment or {})}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield started
    finally:
        started.terminate()
        with suppress(subprocess.TimeoutExpired):
            started.wait(STOP_S)
        # vLLM's engine is a process of its own, and outlives a server that was killed.
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


@contextmanager
def vllm(folder: Path) -> Iterator[Running]:
    """A real vLLM on the CPU with the tiny model."""
    python, model = environments.vllm(), environments.tiny_model()
    port, events_port = free_port(), free_port()
    events = (
        f'{{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:{events_port}"}}'
    )
    command = [
        str(python.with_name("vllm")), "serve", str(model), "--host", "127.0.0.1", "--port",
        str(port), "--served-model-name", MODEL, "--dtype", "float32", "--enforce-eager",
        "--max-num-seqs", str(SEQUENCES), "--max-model-len", str(CONTEXT), "--api-key", KEY,
        "--max-num-queued-reqs", str(QUEUED), "--enable-prompt-tokens-details",
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--kv-events-config", events,
    ]  # fmt: skip
    log = folder / "vllm.log"
    with process(command, log, QUIET) as started:
        url = f"http://127.0.0.1:{port}"
        until(lambda: ready(url) or started.poll() is not None, VLLM_START_S)
        assert ready(url), log.read_text()[-3000:]
        yield Running(url, started, log, KEY, events_port)


@contextmanager
def llama(folder: Path) -> Iterator[Running]:
    """A real llama.cpp with its tiny model."""
    port, log = free_port(), folder / "llama.log"
    command = [
        str(environments.llama()), str(HERE / "llama_server.py"), str(environments.tiny_gguf()),
        MODEL, str(port),
    ]  # fmt: skip
    with process(command, log) as started:
        url = f"http://127.0.0.1:{port}"
        until(lambda: ready(url) or started.poll() is not None, START_S)
        assert ready(url), log.read_text()[-3000:]
        yield Running(url, started, log)


def cuvee(*arguments: str) -> list[str]:
    """A command of this checkout."""
    return [sys.executable, "-m", "cuvee", *arguments]


@contextmanager
def emulator(folder: Path) -> Iterator[Running]:
    """An emulated engine with the options of the real vLLM."""
    log = folder / "emulator.log"
    command = cuvee(
        "emulate", "--model", "Llama-3-8B", "--gpu", "H100", "--max-model-len", str(CONTEXT),
        "--max-num-seqs", str(SEQUENCES), "--max-num-queued-reqs", str(QUEUED),
        "--served-model-name", MODEL, "--enable-auto-tool-choice", "--prefix-cache", "--api-key",
        KEY, "--port", "0",
    )  # fmt: skip
    with process(command, log) as started:
        until(lambda: "http://" in log.read_text() or started.poll() is not None, START_S)
        printed = re.search(r"http://\S+", log.read_text())
        assert printed is not None, log.read_text()
        yield Running(printed[0], started, log, KEY)


@contextmanager
def gateway(folder: Path, pool: str, discovery: str = "") -> Iterator[Running]:
    """A gateway. pool: further lines of its one pool; discovery: a section of its own."""
    port, admin_port = free_port(), free_port()
    config, log = folder / "cuvee.yaml", folder / "gateway.log"
    lines = "\n".join(f"    {line}" for line in pool.splitlines())
    config.write_text(
        CONFIG.format(
            model=MODEL, pool=lines, discovery=discovery, port=port, admin_port=admin_port
        )
    )
    known = {"REAL_KEY": KEY}
    with process(cuvee("serve", "--config", str(config)), log, known) as started:
        url = f"http://127.0.0.1:{port}"
        until(lambda: ready(url) or started.poll() is not None, START_S)
        assert ready(url), log.read_text()[-3000:]
        yield Running(url, started, log, admin=f"http://127.0.0.1:{admin_port}")
