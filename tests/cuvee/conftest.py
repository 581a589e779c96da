"""What runs beside a command that is under test: engines and gateways on a loop of their own."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from gateway.app import App
from gateway.config.load import load
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile
from planner.shipped import folder

T = TypeVar("T")


class Beside:
    """A thread with an event loop, for what a command asks while it runs in this thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._stops: list[Coroutine[Any, Any, Any]] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the loop do something, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def engine(self, model: str = "m", profile: str = "llama-3-8b/H100", **options: Any) -> str:
        """Start an emulated engine; its URL. options: of `Emulator`, and `context`."""
        built = find_profile(profile, folder())
        if context := options.pop("context", None):
            built = replace(built, max_model_len=context)
        emulator = Emulator(built, model, **options)
        port = self.do(emulator.start())
        self._stops.append(emulator.stop())
        return f"http://127.0.0.1:{port}"

    def gateway(self, path: Any) -> App:
        """Start a gateway with a configuration; it serves when this returns."""

        async def begin() -> App:
            return await App(load(path), path=path).__aenter__()

        app = self.do(begin())
        self._stops.append(app.__aexit__(None, None, None))
        return app

    def end(self) -> None:
        """Stop all, the last first."""
        for stop in reversed(self._stops):
            self.do(stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.loop.close()


@pytest.fixture
def beside() -> Iterator[Beside]:
    """A loop beside the test."""
    one = Beside()
    yield one
    one.end()


@pytest.fixture(scope="module")
def beside_all() -> Iterator[Beside]:
    """A loop beside all tests of a file."""
    one = Beside()
    yield one
    one.end()
