"""The gateway of a soak: a process of its own, its configuration, its admin port and its log."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

import msgspec
import yaml

from loadtest.process import family, free_port
from loadtest.soak.ledger import GatewayBook, RequestLine
from loadtest.soak.traffic import MODEL

READY_S = 60.0
STOP_S = 20.0
POLL_S = 0.1
ANSWER_S = 30.0  # of the admin port, which plans before it answers a reload
REQUESTS = b'"logger":"cuvee.requests"'
SERVES = re.compile(r"workers? [\d, (]+\)? (?:listen|serves)")
SAMPLE = re.compile(r"^(\w+(?:\{.*\})?) (\S+)$", re.MULTILINE)
# Short, so that a soak meets them often; an engine that is well takes a tenth of them at most.
TIMEOUTS = {"first_byte_timeout_s": 3.0, "unary_timeout_s": 3.0, "idle_timeout_s": 3.0}


class GatewayFailed(Exception):
    """The gateway did not start, or ended by itself."""


class SoakGateway:
    """An async context manager. path: of the log. port: of the clients."""

    def __init__(self, folder: Path, log: Path, urls: list[str], workers: int) -> None:
        """folder: for the configuration. urls: of the engines."""
        self._config = folder / "soak.yaml"
        self._process: asyncio.subprocess.Process | None = None
        self.path = log
        self.urls = urls
        self.workers = workers
        self.port, self._admin_port = free_port(), free_port()

    async def __aenter__(self) -> "SoakGateway":
        self.write(self.raw())
        with self.path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cuvee", "serve", "--config", str(self._config),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            async with asyncio.timeout(READY_S):
                while not await self._is_ready():  # noqa: ASYNC110 (it has no event)
                    await asyncio.sleep(POLL_S)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """The gateway's first process."""
        assert self._process is not None
        return self._process.pid

    async def stop(self) -> int:
        """End the gateway; return its exit status."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
            try:
                return await asyncio.wait_for(self._process.wait(), STOP_S)
            except TimeoutError:
                self._process.kill()
        return await self._process.wait()

    def raw(self) -> dict[str, Any]:
        """The configuration as it is at the start."""
        cut = max(1, 2 * len(self.urls) // 3)
        pools = {"a": ("A100-80G", self.urls[:cut]), "b": ("H100", self.urls[cut:])}
        return {
            "models": {
                MODEL: {
                    "slo": {"ttft_s": 3.0, "tpot_s": 0.2},
                    "classes": {
                        "interactive": {"ttft_s": 2.0, "tpot_s": 0.12},
                        "batch": {"ttft_s": 20.0, "tpot_s": 0.5},
                    },
                }
            },
            "pools": {
                name: {
                    "model": MODEL, "profile": f"llama-3-8b/{gpu}", "usd_per_hour": 2.0,
                    "backends": urls,
                }
                for name, (gpu, urls) in pools.items() if urls
            },
            "planner": {"interval_s": 3.0, "window_s": 20.0, "min_requests": 20, "patience": 2},
            "gateway": {
                "host": "127.0.0.1", "port": self.port, "admin_port": self._admin_port,
                "workers": self.workers, "drain_delay_s": 0, "log_format": "json",
                "request_log": 1.0, **TIMEOUTS,
            },
        }  # fmt: skip

    def write(self, raw: Mapping[str, Any]) -> None:
        """Replace the configuration file at once."""
        other = self._config.with_suffix(".new")
        other.write_text(yaml.safe_dump(dict(raw), sort_keys=False))
        other.replace(self._config)

    async def reload(self) -> int:
        """Have the file read again; return the status of the answer."""
        status, _ = await self._admin("POST", "/cuvee/reload")
        return status

    async def page(self) -> dict[str, float]:
        """The samples of the page of metrics, by name with labels."""
        _, body = await self._admin("GET", "/metrics")
        return {name: float(value) for name, value in SAMPLE.findall(body.decode())}

    def kill_worker(self, random: Random) -> None:
        """End one of the worker processes without notice."""
        told = " ".join(SERVES.findall(self.path.read_text(errors="replace")))
        pids = set(map(int, re.findall(r"\d+", told))) & set(family(self.pid))
        os.kill(random.choice(sorted(pids)), signal.SIGKILL)

    def read_log(self, book: GatewayBook) -> None:
        """Book the lines about requests."""
        decoder = msgspec.json.Decoder(RequestLine)
        with self.path.open("rb") as log:
            for text in log:
                if REQUESTS in text:
                    line = decoder.decode(text)
                    if line.request_id:
                        book.lines.setdefault(int(line.request_id), []).append(line)
                    else:
                        book.nameless += 1

    async def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            tail = self.path.read_text(errors="replace")[-500:]
            raise GatewayFailed(f"the gateway did not start:\n{tail}")
        try:
            status, _ = await self._admin("GET", "/readyz")
        except OSError:
            return False
        return status == 200

    async def _admin(self, method: str, path: str) -> tuple[int, bytes]:
        """Question the admin port on a connection of its own. Raises OSError."""
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._admin_port)
            try:
                lines = f"{method} {path} HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n\r\n"
                writer.write(lines.encode())
                answer = await reader.read()
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head[9:12] or 0), body
