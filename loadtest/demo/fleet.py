"""A gateway in front of emulated backends, each in a process of its own, on free loopback ports.

Owns the processes: whatever happens, all that it started has ended when it is left. Knows nothing
of load or of results.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import aiohttp
import uvloop
import yaml

from gateway.config import load
from gateway.config.load import Loaded
from loadtest.emulator.server import Emulator
from loadtest.process import free_port
from planner import shipped
from planner.engine.profiles import Profile

READY_S = 60.0  # a gateway that is not ready by then will not be
STOP_S = 10.0

BackendSpecs = Sequence[tuple[str, Profile, str]]  # pool, profile, model: one entry per backend


class LocalFleetError(Exception):
    """Something on the stage did not start; the message holds its own words."""


class LocalFleet:
    """An async context manager; `url` is the gateway's, `loaded` the configuration that it runs."""

    def __init__(self, path: Path, *, log: Path | None = None) -> None:
        """path: a configuration; its backends and port are replaced by free ones. log: where the
        gateway's own log goes, default nowhere."""
        self.loaded = load.load(path)
        self._root = path.parent
        self._raw = yaml.safe_load(path.read_text())
        self._log = log or Path(os.devnull)
        self._folder = tempfile.TemporaryDirectory(prefix="cuvee-")
        self._gateway: asyncio.subprocess.Process | None = None
        self.url = ""

    async def __aenter__(self) -> "LocalFleet":
        here, there = get_context("spawn").Pipe()
        self._line = here
        self._backends = get_context("spawn").Process(
            target=serve, args=(there, _specs(self.loaded)), daemon=True
        )
        self._backends.start()
        there.close()
        try:
            ports = await asyncio.to_thread(self._ports)
            await self._open(ports)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._gateway is not None and self._gateway.returncode is None:
            self._gateway.terminate()
            try:
                await asyncio.wait_for(self._gateway.wait(), STOP_S)
            except TimeoutError:
                self._gateway.kill()
                await self._gateway.wait()
        self._line.close()  # the backends stop when nobody listens any more
        await asyncio.to_thread(self._backends.join, STOP_S)
        if self._backends.is_alive():
            self._backends.kill()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """The gateway's process."""
        assert self._gateway is not None
        return self._gateway.pid

    def _ports(self) -> list[int]:
        try:
            ports: list[int] = self._line.recv()
        except EOFError:
            raise LocalFleetError("the emulated backends did not start") from None
        return ports

    async def _open(self, ports: list[int]) -> None:
        """Writes the configuration with real ports and starts the gateway on it."""
        port = free_port()
        path = Path(self._folder.name) / "cuvee.yaml"
        path.write_text(yaml.safe_dump(self._configured(ports, port), sort_keys=False))
        self.url = f"http://127.0.0.1:{port}"
        with self._log.open("ab") as log:
            self._gateway = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cuvee", "serve", "--config", str(path),
                stdout=log, stderr=log,
            )  # fmt: skip
        await self._ready()

    def _configured(self, ports: list[int], port: int) -> dict[str, object]:
        urls = iter(f"http://127.0.0.1:{number}" for number in ports)
        raw = dict(self._raw)
        raw["pools"] = {
            name: pool
            | {
                "backends": [next(urls) for _ in pool["backends"]],
                "profile": shipped.absolute(pool["profile"], self._root),
            }
            for name, pool in raw["pools"].items()
        }
        if "prices" in raw:
            raw["prices"] = shipped.absolute(raw["prices"], self._root)
        if raw.get("planner", {}).get("workload"):
            workload = str((self._root / raw["planner"]["workload"]).resolve())
            raw["planner"] = raw["planner"] | {"workload": workload}
        local = {"host": "127.0.0.1", "port": port, "drain_delay_s": 0}
        raw["gateway"] = raw.get("gateway", {}) | local
        return raw

    async def _ready(self) -> None:
        assert self._gateway is not None
        async with aiohttp.ClientSession() as session, asyncio.timeout(READY_S):
            while self._gateway.returncode is None:
                try:
                    async with session.get(f"{self.url}/readyz") as reply:
                        if reply.status == 200:
                            return
                except aiohttp.ClientError:
                    pass  # not listening yet
                await asyncio.sleep(0.1)
        raise LocalFleetError(f"the gateway ended with status {self._gateway.returncode}")


def _specs(loaded: Loaded) -> BackendSpecs:
    profiles = {pool.name: pool.profile for pool in loaded.pools}
    return [
        (name, profiles[name], section.model)
        for name, section in loaded.config.pools.items()
        for _ in section.backends
    ]


def serve(line: Connection, specs: BackendSpecs) -> None:
    """The backends' process: an emulator per entry; tells their ports, runs until hung up."""
    uvloop.run(_act(line, specs))


async def _act(line: Connection, specs: BackendSpecs) -> None:
    emulators = [Emulator(profile, model) for _, profile, model in specs]
    try:
        line.send([await emulator.start() for emulator in emulators])
        await asyncio.to_thread(_hung_up, line)
    finally:
        for emulator in emulators:
            await emulator.stop()


def _hung_up(line: Connection) -> None:
    try:
        line.recv()
    except EOFError:
        return
