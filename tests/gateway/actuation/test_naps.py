"""Engines are told to wake and to sleep; those that do not obey are not told again."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.actuation.chronicle import Chronicle
from gateway.actuation.drains import Drains
from gateway.actuation.launches import Launches, Sight
from gateway.actuation.naps import Naps
from gateway.config.upstream import TlsPaths, Upstream
from gateway.journal.journal import DecisionJournal
from gateway.routing.fleet import Fleet
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

ROOT = Path(__file__).resolve().parents[3]


class Bedroom:
    """A pool of one engine."""

    def __init__(self, url, upstreams=None):
        self.fleet = Fleet.of({"p": (url,)})
        (self.backend,) = self.fleet.pool("p")
        self.drains, self.launches = Drains(), Launches()
        self.journal = DecisionJournal(clock=lambda: 0.0, wall_clock=lambda: 0.0)
        self.naps = Naps(
            self.fleet,
            self.drains,
            self.launches,
            Chronicle(self.journal),
            upstreams=lambda: upstreams or {},
        )

    @property
    def lines(self):
        return [entry.cause for entry in self.journal.entries]


@asynccontextmanager
async def bedroom(*, sleep_mode):
    engine = Emulator(find_profile("llama-3-8b/A10G", ROOT), "m", sleep_mode=sleep_mode)
    room = Bedroom(f"http://127.0.0.1:{await engine.start()}")
    try:
        yield room
    finally:
        await room.naps.aclose()
        await engine.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)


async def test_an_engine_that_cannot_sleep_serves_on():
    """It has no such path: it is drained no longer, named, and not told again."""
    async with bedroom(sleep_mode=False) as room:
        begun = room.naps.lie_down("p", [room.backend], 1, 0.0)
        drained = list(room.drains.wanted())
        await until(lambda: not room.drains.wanted())
        again = room.naps.lie_down("p", [room.backend], 1, 0.0)

    assert (begun, again, drained) == ([room.backend], [], ["p-0"])
    assert any("does not obey: /sleep?level=1 answered 404" in line for line in room.lines)


async def test_an_engine_lies_down_when_it_is_seen_to_sleep():
    """Until then it is drained and counts as on its way; no more lie down than are told."""
    async with bedroom(sleep_mode=True) as room:
        none = room.naps.lie_down("p", [room.backend], 0, 0.0)
        room.naps.lie_down("p", [room.backend], 1, 0.0)
        before = len(room.naps.lying_down("p")), room.naps.sleepers("p")
        room.backend.asleep = True
        await until(lambda: not room.drains.wanted())
        again = room.naps.lie_down("p", [room.backend], 1, 0.0)
        after = len(room.naps.lying_down("p")), room.naps.sleepers("p")

    assert (none, again) == ([], [])
    assert (before, after) == ((1, []), (0, [room.backend]))
    assert room.naps.refused == set()


async def test_what_is_woken_counts_as_launched_until_it_is_ready_or_given_up():
    """Once, however often it is asked for; one that does not get ready is not woken again."""
    async with bedroom(sleep_mode=True) as room:
        room.backend.asleep = True
        room.launches.look("p", [Sight(name="p-0", up=True, ready=False)], 0.0)
        for _ in range(2):
            room.naps.wake("p", 1)
        pending = room.launches.pending("p")
        (started,) = room.launches.look("p", [Sight(name="p-0", up=True, ready=True)], 1e9)
        room.naps.gave_up("p", ["p-0"], 30.0)
        room.naps.wake("p", 1)

    assert pending == 1
    assert started.woken
    assert room.launches.pending("p") == 0
    assert any("p-0 did not wake up within 30 s" in line for line in room.lines)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Files of a certificate for the name `engine` that signed itself, and of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=e -addext subjectAltName=DNS:engine"
    command = ["openssl", *made.split(), "-keyout", "a.key", "-out", "a.pem"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return str(tmp_path / "a.pem"), str(tmp_path / "a.key")


async def test_an_engine_is_told_in_the_way_of_its_pool(certificate):
    """With its headers, its authorities, the gateway's own certificate and the name of theirs."""
    pem, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pem)
    context.load_cert_chain(pem, key)
    context.verify_mode = ssl.CERT_REQUIRED
    told: list[bytes] = []

    async def serve(reader, writer):
        told.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    tls = TlsPaths(ca=pem, certificate=pem, key=key, server_name="engine")
    upstream = Upstream(headers=(("authorization", "Bearer k"),), tls=tls)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        room = Bedroom(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", {"p": upstream})
        room.backend.asleep = True
        room.naps.wake("p", 1)
        await until(lambda: bool(told))
        await room.naps.aclose()

    assert told[0].startswith(b"POST /wake_up HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer k\r\n" in told[0]
    assert room.naps.refused == set()
