"""Two emulated engines and a gateway before them, for a client in an environment of its own.

Imports only the standard library and pytest: Cuvée runs in the environment that
`CUVEE_PYTHON` names, and these tests in the client's.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = "llama-3-8b"
START_S = 60.0
STOP_S = 20.0
COUNTED_S = 5.0
POLL_S = 0.05
ENGINE = (
    "emulate", "--profile", "llama-3-8b/H100", "--served-model-name", MODEL, "--port", "0",
    "--enable-auto-tool-choice", "--image-tokens", "576", "--task", "both",
)  # fmt: skip
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
CONFIG = """\
models:
  {model}:
    slo: {{ttft_s: 5.0, tpot_s: 0.5}}
pools:
  h100:
    model: {model}
    profile: llama-3-8b/H100
    usd_per_hour: 5.0
    backends: [{urls}]
planner: {{certify_cpu_s: 0}}
gateway:
  host: 127.0.0.1
  port: {port}
  admin_port: {admin_port}
  cors_origins: [{origins}]
  request_log: 1
  drain_delay_s: 0
  drain_s: 1
"""


class Gateway:
    """A gateway that runs.

    url: of the data port, without a path. api: the base URL of OpenAI clients. model: the name that
    is served. admin: the URL of the admin port.
    """

    def __init__(self, port: int, admin_port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.api = f"{self.url}/v1"
        self.admin = f"http://127.0.0.1:{admin_port}"
        self.model = MODEL

    def count(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(value)
            for found, have, value in SAMPLE.findall(text)
            if found == name and all(label in have.split(",") for label in wanted)
        )

    def counts(self) -> dict[str, float]:
        """Requests that ended well, requests that did not, and tokens by direction, until now."""
        well = self.count("cuvee_requests_total", outcome="ok")
        return {
            "completed": well,
            "others": self.count("cuvee_requests_total") - well,
            "input": self.count("cuvee_tokens_total", direction="input"),
            "output": self.count("cuvee_tokens_total", direction="output"),
        }


class Tally:
    """What a gateway counted since this was made."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._before = gateway.counts()

    def now(self) -> dict[str, float]:
        return {name: n - self._before[name] for name, n in self._gateway.counts().items()}

    def reach(self, **wanted: float) -> None:
        """Assert that these are the counts, at once or soon: a request is counted after its
        answer."""
        until(lambda: self.now().items() >= wanted.items(), COUNTED_S)
        assert self.now().items() >= wanted.items()


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
def cuvee(*arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command of this checkout, as a process with its output in `log`, until the end."""
    python = os.environ.get("CUVEE_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-m", "cuvee", *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def engine(log: Path) -> Iterator[str]:
    """The URL of an emulated engine on a port of the system's choice, which it prints."""
    with cuvee(*ENGINE, log=log) as process:
        assert until(lambda: "http://" in log.read_text() or process.poll() is not None, START_S)
        printed = re.search(r"http://\S+", log.read_text())
        assert printed is not None, log.read_text()
        assert until(lambda: ready(printed[0]), START_S), log.read_text()
        yield printed[0]


@contextmanager
def serving(folder: Path, urls: list[str], origins: tuple[str, ...] = ()) -> Iterator[Gateway]:
    """A gateway before these engines. origins: of pages that may call from a browser."""
    gateway = Gateway(*(ports := (free_port(), free_port())))
    config, log = folder / "cuvee.yaml", folder / "gateway.log"
    config.write_text(
        CONFIG.format(
            model=MODEL,
            urls=", ".join(f'"{url}"' for url in urls),
            port=ports[0],
            admin_port=ports[1],
            origins=", ".join(f'"{origin}"' for origin in origins),
        )
    )
    with cuvee("serve", "--config", str(config), log=log) as process:
        assert until(lambda: ready(gateway.url) or process.poll() is not None, START_S)
        assert process.poll() is None, log.read_text()
        yield gateway


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    made: Path = tmp_path_factory.mktemp("client")
    return made


@pytest.fixture(scope="session")
def engines(folder) -> Iterator[list[str]]:
    """The URLs of two emulated engines."""
    with ExitStack() as stack:
        logs = (folder / "engine-1.log", folder / "engine-2.log")
        yield [stack.enter_context(engine(log)) for log in logs]


@pytest.fixture(scope="session")
def gateway(folder, engines) -> Iterator[Gateway]:
    """A gateway before two emulated engines."""
    with serving(folder, engines) as found:
        yield found


@pytest.fixture
def tally(gateway) -> Tally:
    """What the gateway counts from here on."""
    return Tally(gateway)


@pytest.fixture
def soon() -> Callable[[Callable[[], bool]], bool]:
    """Says whether something holds at once or soon."""
    return lambda holds: until(holds, COUNTED_S)


@pytest.fixture
def gateway_before(tmp_path) -> Iterator[Callable[..., Gateway]]:
    """Starts a gateway of its own before the given engines."""
    with ExitStack() as stack:
        yield lambda urls, **settings: stack.enter_context(serving(tmp_path, urls, **settings))


@pytest.fixture
def http_server() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Starts a small server of this class on a loopback port; says its URL."""
    started: list[ThreadingHTTPServer] = []

    def start(handler: type[BaseHTTPRequestHandler]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        started.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> Path:
    """A folder with a tokenizer of words, as the emulated engines count; nothing is downloaded."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = folder / "tokenizer"
    path.mkdir()
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{n}": n for n in range(3, 2000)}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>",'
        ' "eos_token": "</s>", "model_max_length": 8192}'
    )
    return path


@pytest.fixture
def command(tmp_path) -> Callable[..., str]:
    """Runs a program of the client's environment to its end and says what it printed. It may call
    no hub and no telemetry."""

    def run(program: str, *arguments: Any, timeout_s: float = 240.0, **variables: str) -> str:
        path = Path(sys.executable).parent / program
        found = str(path) if path.exists() else shutil.which(program)
        assert found, f"{program} is not installed"
        quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        quiet |= {"HF_ENDPOINT": "http://127.0.0.1:9", "DO_NOT_TRACK": "1"}
        ended = subprocess.run(
            [found, *map(str, arguments)],
            cwd=tmp_path, env={**os.environ, **quiet, **variables}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    return run
