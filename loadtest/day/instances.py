"""Emulated engines in a process of their own, started and ended one by one.

Owns that process: it has ended when this is left. Knows no pool, no price and no gateway.
"""

import asyncio
from multiprocessing.connection import Connection

import uvloop

from loadtest.demo.child import PipedProcess, received
from loadtest.emulator.server import Emulator
from planner.engine.profiles import Profile

# What to do ("start", "busy", "end"), with which engine, and of what profile and model.
Command = tuple[str, int, Profile | None, str]


class EngineProcess:
    """An async context manager: the process."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._number = 0

    async def __aenter__(self) -> "EngineProcess":
        self._process = PipedProcess(_main)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.aclose()

    async def start(self, profile: Profile, model: str) -> tuple[int, str]:
        """Start an engine; return its number and its URL."""
        self._number += 1
        number = self._number
        port = await self._ask(("start", number, profile, model))
        return number, f"http://127.0.0.1:{port}"

    async def busy(self, number: int) -> int:
        """How many requests an engine has."""
        return await self._ask(("busy", number, None, ""))

    async def end(self, number: int) -> int:
        """End an engine now; return how many requests it had."""
        return await self._ask(("end", number, None, ""))

    async def _ask(self, command: Command) -> int:
        async with self._turn:
            return await asyncio.to_thread(self._answer, command)

    def _answer(self, command: Command) -> int:
        self._process.pipe.send(command)
        found: int = self._process.pipe.recv()
        return found


def _main(pipe: Connection) -> None:
    uvloop.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    engines: dict[int, Emulator] = {}
    try:
        command: Command
        while (command := await asyncio.to_thread(received, pipe)) is not None:
            verb, number, profile, model = command
            if profile is not None:
                engines[number] = Emulator(profile, model)
                pipe.send(await engines[number].start())
                continue
            engine = engines[number] if verb == "busy" else engines.pop(number)
            busy = engine.engine.running + engine.engine.waiting
            if verb == "end":
                await engine.stop()
            pipe.send(busy)
    finally:
        for engine in engines.values():
            await engine.stop()
