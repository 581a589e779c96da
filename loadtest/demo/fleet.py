"""A gateway in front of emulated backends, on free loopback ports.

Owns the two processes, one for the gateway and one for all backends: both have ended when the fleet
is left, however it is left. Knows nothing of load or of results.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop
import yaml

from gateway.config import load
from gateway.config.load import Loaded
from loadtest.demo.child import PipedProcess, received
from loadtest.demo.gateway import LocalFleetError, LocalGateway
from loadtest.emulator.server import Emulator
from planner.engine.profiles import Profile

BackendSpecs = Sequence[tuple[Profile, str]]  # profile and model: one entry per backend


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
        self._log = log
        self._stack = AsyncExitStack()
        self.url = self.admin_url = ""

    async def __aenter__(self) -> "LocalFleet":
        self._backends = PipedProcess(serve_backends, _specs(self.loaded))
        try:
            ports = await asyncio.to_thread(self._receive_ports)
            self._gateway = await self._stack.enter_async_context(
                LocalGateway(self._local_config(ports), self._root, log=self._log)
            )
            self.url, self.admin_url = self._gateway.url, self._gateway.admin_url
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        await self._backends.aclose()

    @property
    def pid(self) -> int:
        """The gateway's process."""
        return self._gateway.pid

    def _receive_ports(self) -> list[int]:
        """The backends' ports, in the order of the specs. Blocks."""
        ports: list[int] | None = received(self._backends.pipe)
        if ports is None:
            raise LocalFleetError("the emulated backends did not start")
        return ports

    def _local_config(self, ports: list[int]) -> dict[str, Any]:
        """The configuration with local backends."""
        urls = iter(f"http://127.0.0.1:{number}" for number in ports)
        pools = {
            name: pool | {"backends": [next(urls) for _ in pool["backends"]]}
            for name, pool in self._raw["pools"].items()
        }
        return dict(self._raw) | {"pools": pools}


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
        await asyncio.to_thread(received, pipe)  # nothing is sent: it returns at the end
    finally:
        for emulator in emulators:
            await emulator.stop()
