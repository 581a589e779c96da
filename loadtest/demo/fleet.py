"""A gateway in front of emulated backends, on free loopback ports.

Owns the two processes, one for the gateway and one for all backends: both have ended when the fleet
is left, however it is left. Knows nothing of load or of results.
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
STOP_S = 10.0  # for a clean exit; then kill

BackendSpecs = Sequence[tuple[Profile, str]]  # profile and model: one entry per backend


class LocalFleetError(Exception):
    """The gateway or the emulated backends did not start."""


class LocalFleet:
    """An async context manager.

    url, admin_url: of the gateway's two ports. loaded: the configuration that it runs.
    """

    def __init__(self, path: Path, *, log: Path | None = None) -> None:
        """path: a configuration; free ports replace its backends and its port. log: for the
        gateway's own log, default nowhere. Raises ConfigError before anything is started."""
        self.loaded = load.load(path)
        self._root = path.parent
        self._raw = yaml.safe_load(path.read_text())
        self._log = log or Path(os.devnull)
        self._folder = tempfile.TemporaryDirectory(prefix="cuvee-")
        self._gateway: asyncio.subprocess.Process | None = None
        self.url = self.admin_url = ""

    async def __aenter__(self) -> "LocalFleet":
        # spawn and not fork: this process has a running event loop.
        here, there = get_context("spawn").Pipe()
        self._pipe = here
        self._backends = get_context("spawn").Process(
            target=serve_backends, args=(there, _specs(self.loaded)), daemon=True
        )
        self._backends.start()
        there.close()  # the child has its own end; with ours closed, its death is an EOFError here
        try:
            ports = await asyncio.to_thread(self._receive_ports)
            await self._start_gateway(ports)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
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
        self._pipe.close()  # the backends stop when their end of the pipe reads EOF
        await asyncio.to_thread(self._backends.join, STOP_S)
        if self._backends.is_alive():
            self._backends.kill()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """The gateway's process."""
        assert self._gateway is not None
        return self._gateway.pid

    def _receive_ports(self) -> list[int]:
        """The backends' ports, in the order of the specs. Blocks."""
        try:
            ports: list[int] = self._pipe.recv()
        except EOFError:
            raise LocalFleetError("the emulated backends did not start") from None
        return ports

    async def _start_gateway(self, ports: list[int]) -> None:
        """Write the configuration with real ports, start the gateway on it, wait until ready."""
        own = free_port(), free_port()
        path = Path(self._folder.name) / "cuvee.yaml"
        path.write_text(yaml.safe_dump(self._local_config(ports, *own), sort_keys=False))
        self.url, self.admin_url = (f"http://127.0.0.1:{port}" for port in own)
        with self._log.open("ab") as log:
            self._gateway = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cuvee", "serve", "--config", str(path),
                stdout=log, stderr=log,
            )  # fmt: skip
        await self._wait_until_ready()

    def _local_config(self, ports: list[int], port: int, admin_port: int) -> dict[str, object]:
        """The configuration with local backends and ports.

        It is written to another folder, so files that it names get absolute paths.
        """
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
        # No load balancer has to notice that the gateway leaves: it need not wait before it drains.
        local = {
            "host": "127.0.0.1",
            "port": port,
            "admin_host": "127.0.0.1",
            "admin_port": admin_port,
            "drain_delay_s": 0,
        }
        raw["gateway"] = raw.get("gateway", {}) | local
        return raw

    async def _wait_until_ready(self) -> None:
        """Ask /readyz until it says yes. Raises LocalFleetError, or TimeoutError after READY_S."""
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
    """Every configured backend, pool by pool: the order in which ports take their places."""
    profiles = {pool.name: pool.profile for pool in loaded.pools}
    return [
        (profiles[name], section.model)
        for name, section in loaded.config.pools.items()
        for _ in section.backends
    ]


def serve_backends(pipe: Connection, specs: BackendSpecs) -> None:
    """Run the backends' process: an emulator per spec; send their ports, stop at the pipe's EOF."""
    uvloop.run(_serve_backends(pipe, specs))


async def _serve_backends(pipe: Connection, specs: BackendSpecs) -> None:
    emulators = [Emulator(profile, model) for profile, model in specs]
    try:
        pipe.send([await emulator.start() for emulator in emulators])
        await asyncio.to_thread(_wait_for_eof, pipe)
    finally:
        for emulator in emulators:
            await emulator.stop()


def _wait_for_eof(pipe: Connection) -> None:
    try:
        pipe.recv()
    except EOFError:
        return
