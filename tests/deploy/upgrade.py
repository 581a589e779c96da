"""Upgrades a gateway to another version and back while clients go on, and counts what they lose.

    python tests/deploy/upgrade.py [--before COMMIT] [--after COMMIT]

Twice: on one machine, where each version takes the port over (`cuvee serve --replace`); and as
Kubernetes rolls a Deployment, where a double of a Service sends connections to pods that are ready.
Versions are commits of this checkout, interpreted. Needs Linux. Ports: 18980 to 18989.
"""

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent)]
from steady_load import SteadyLoad  # noqa: E402  (beside this file, which is run as a program)

ENGINES, PORT, PODS = (18980, 18981), 18982, 18983
LIMIT_S = 90.0  # for a version to serve, or to end
MORE = 40  # answers before and after each change
PRE_STOP_S = 1.0  # as the chart's preStopSeconds: endpoints are told first
CONFIG = """
gateway: {{port: {port}, admin_port: 0, drain_delay_s: 2, warmup_s: 0, workers: {workers}}}
models:
  llama-3-8b: {{slo: {{ttft_s: 5.0, tpot_s: 0.5}}}}
prices: aws-2026-07
pools:
  a10g: {{model: llama-3-8b, profile: llama-3-8b/A10G, backends: ["http://127.0.0.1:{engines[0]}"]}}
  h100: {{model: llama-3-8b, profile: llama-3-8b/H100, backends: ["http://127.0.0.1:{engines[1]}"]}}
"""


def exported(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    name = subprocess.check_output(["git", "rev-parse", "--short", commit], cwd=ROOT, text=True)
    to = folder / name.strip()
    if not to.exists():
        archive = folder / "archive.tar"
        subprocess.run(["git", "archive", "-o", archive, commit], cwd=ROOT, check=True)
        with tarfile.open(archive) as files:
            files.extractall(to, filter="data")
    return to


async def _is(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _until(url: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await _is(url):  # noqa: ASYNC110  # a process of its own
            await asyncio.sleep(0.1)


async def _begun(version: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cuvee", *words, cwd=version, stderr=asyncio.subprocess.DEVNULL
    )


async def _gone(process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(LIMIT_S):
        await process.wait()


@contextlib.asynccontextmanager
async def engines() -> AsyncIterator[None]:
    """Two emulated engines, of this checkout."""
    begun = [
        await _begun(
            ROOT, "emulate", "--profile", f"llama-3-8b/{gpu}", "--served-model-name",
            "llama-3-8b", "--port", str(port),
        )
        for gpu, port in zip(("A10G", "H100"), ENGINES, strict=True)
    ]  # fmt: skip
    try:
        for port in ENGINES:
            await _until(f"http://127.0.0.1:{port}/health")
        yield
    finally:
        for process in begun:
            process.kill()
            await process.wait()


async def handed_over(versions: list[Path], folder: Path, workers: int) -> SteadyLoad:
    """Each version takes the port over from the one before it."""
    path = folder / "cuvee.yaml"
    path.write_text(CONFIG.format(port=PORT, workers=workers, engines=ENGINES))
    serving = await _begun(versions[0], "serve", "--config", str(path))
    await _until(f"http://127.0.0.1:{PORT}/readyz")
    async with SteadyLoad(f"http://127.0.0.1:{PORT}") as load:
        for version in versions[1:]:
            await load.more(MORE)
            before, serving = (
                serving,
                await _begun(version, "serve", "--config", str(path), "--replace"),
            )
            await _gone(before)  # it ends when the other serves
        await load.more(MORE)
    serving.terminate()
    await _gone(serving)
    return load


@dataclass(slots=True)
class ServiceDouble:
    """Sends each new connection to one of the ready ports by turns, as a Service does; those that
    it has stay where they are. An async context manager."""

    port: int
    ready: list[int] = field(default_factory=list)
    _turns: count = field(default_factory=count)
    _server: asyncio.Server | None = None
    _pumps: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> "ServiceDouble":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pump in tuple(self._pumps):
            pump.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports = self.ready
        port = ports[next(self._turns) % len(ports)]
        with contextlib.suppress(OSError):
            back, to = await asyncio.open_connection("127.0.0.1", port)
            loop = asyncio.get_running_loop()
            pumps = [loop.create_task(_pump(reader, to)), loop.create_task(_pump(back, writer))]
            self._pumps.update(pumps)
            await asyncio.wait(pumps)
            self._pumps.difference_update(pumps)
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()


async def rolled(versions: list[Path], folder: Path, workers: int) -> SteadyLoad:
    """Two pods of each version, one after the other: the new one is ready, the old one is no
    endpoint any more, waits, gets SIGTERM and ends."""
    ports = count(PODS)

    async def pod(version: Path) -> tuple[int, asyncio.subprocess.Process]:
        port = PODS + (next(ports) - PODS) % 4
        path = folder / f"pod-{port}.yaml"
        path.write_text(CONFIG.format(port=port, workers=workers, engines=ENGINES))
        process = await _begun(version, "serve", "--config", str(path))
        await _until(f"http://127.0.0.1:{port}/readyz")
        return port, process

    pods = [await pod(versions[0]) for _ in range(2)]
    async with (
        ServiceDouble(PORT, [port for port, _ in pods]) as service,
        SteadyLoad(f"http://127.0.0.1:{PORT}") as load,
    ):
        for version in versions[1:]:
            for _ in range(2):
                await load.more(MORE)
                pods.append(await pod(version))
                _, leaving = pods.pop(0)
                service.ready = [port for port, _ in pods]
                await asyncio.sleep(PRE_STOP_S)
                leaving.send_signal(signal.SIGTERM)
                await _gone(leaving)
        await load.more(MORE)
    for _, process in pods:
        process.terminate()
        await _gone(process)
    return load


async def tried(before: str, after: str, workers: int = 1) -> dict[str, SteadyLoad]:
    """What came of both ways, by name: from `before` to `after` and back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old, new = exported(before, folder), exported(after, folder)
        async with engines():
            return {
                "handed over": await handed_over([old, new, old], folder, workers),
                "rolled": await rolled([old, new, old], folder, workers),
            }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default="HEAD~1", help="the old version")
    parser.add_argument("--after", default="HEAD", help="the new one")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    results = asyncio.run(tried(options.before, options.after, options.workers))
    for way, load in results.items():
        print(f"{options.before} to {options.after} and back, {way}: {load}")
    return 1 if any(load.lost for load in results.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
