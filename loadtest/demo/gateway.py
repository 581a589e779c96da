"""A gateway of its own process, on free loopback ports, with another configuration's settings.

It has ended when this is left, however it is left. Knows nothing of backends, load or results.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from loadtest.demo.child import STOP_S
from loadtest.process import free_port
from planner import shipped

READY_S = 60.0  # a gateway that is not ready by then will not be


class LocalFleetError(Exception):
    """The gateway or the emulated backends did not start."""


class LocalGateway:
    """An async context manager.

    url, admin_url: of its two ports.
    """

    def __init__(self, raw: dict[str, Any], root: Path, *, log: Path | None = None) -> None:
        """raw: the configuration as read from a file; free ports replace its own. root: the folder
        that its paths are relative to. log: for the gateway's own log, default nowhere."""
        self._raw = raw
        self._root = root
        self._log = log or Path(os.devnull)
        self._folder = tempfile.TemporaryDirectory(prefix="cuvee-")
        self._process: asyncio.subprocess.Process | None = None
        self.url = self.admin_url = ""

    async def __aenter__(self) -> "LocalGateway":
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), STOP_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    async def _start(self) -> None:
        """Write the configuration with real ports, start the gateway on it, wait until ready."""
        own = free_port(), free_port()
        path = Path(self._folder.name) / "cuvee.yaml"
        path.write_text(yaml.safe_dump(_local(self._raw, self._root, *own), sort_keys=False))
        self.url, self.admin_url = (f"http://127.0.0.1:{port}" for port in own)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cuvee", "serve", "--config", str(path),
                stdout=log, stderr=log,
            )  # fmt: skip
        await self._wait_until_ready()

    async def _wait_until_ready(self) -> None:
        """Ask /readyz until it says yes. Raises LocalFleetError, or TimeoutError after READY_S."""
        assert self._process is not None
        async with aiohttp.ClientSession() as session, asyncio.timeout(READY_S):
            while self._process.returncode is None:
                try:
                    async with session.get(f"{self.url}/readyz") as reply:
                        if reply.status == 200:
                            return
                except aiohttp.ClientError:
                    pass  # not listening yet
                await asyncio.sleep(0.1)
        raise LocalFleetError(f"the gateway ended with status {self._process.returncode}")


def _local(raw: dict[str, Any], root: Path, port: int, admin_port: int) -> dict[str, Any]:
    """The configuration with local ports.

    It is written to another folder, so files that it names get absolute paths.
    """
    made = dict(raw)
    made["pools"] = {
        name: pool | {"profile": shipped.absolute(pool["profile"], root)}
        for name, pool in raw["pools"].items()
    }
    if "prices" in raw:
        made["prices"] = shipped.absolute(raw["prices"], root)
    if raw.get("planner", {}).get("workload"):
        workload = str((root / raw["planner"]["workload"]).resolve())
        made["planner"] = raw["planner"] | {"workload": workload}
    # No load balancer has to notice that the gateway leaves: it need not wait before it drains.
    local = {
        "host": "127.0.0.1",
        "port": port,
        "admin_host": "127.0.0.1",
        "admin_port": admin_port,
        "drain_delay_s": 0,
    }
    made["gateway"] = raw.get("gateway", {}) | local
    return made
