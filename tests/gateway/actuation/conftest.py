"""A pool, wishes for it, and a receiver of wishes over a real socket."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.actuation.actuator import ScaleOrder
from gateway.actuation.scaled_pool import ScaledPool

POOL = ScaledPool(name="a100", model="llama-3-8b", gpu="A100-80G", gpus=2, zone="eu-west")


def an_order(backends: int = 5, running: int = 3, key: str = "k-1", **more) -> ScaleOrder:
    """A wish."""
    return ScaleOrder(
        key=key, pool="a100", backends=backends, running=running, why="more demand", **more
    )


class Receiver:
    """What listens at the URL of a webhook. answers: whole responses, the last one for ever;
    `None`: it says nothing and waits. requests: (head, headers, body)."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = [response(200)]
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""
        self.busy = self.busiest = 0
        self._handlers: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close."""
        self._handlers.add(asyncio.current_task())
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            headers |= {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in lines}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.requests.append((head, headers, body))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.busy -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def ended(self) -> None:
        """Wait for all that came."""
        await asyncio.gather(*(task for task in self._handlers if task), return_exceptions=True)


def response(status: int, body: bytes | str = b"", kind: str = "application/json", **headers):
    """The bytes of a response."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} x", f"content-type: {kind}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
async def receiver():
    """A receiver that listens."""
    one = Receiver()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield one
    server.close()
    await one.ended()


@pytest.fixture
def respond() -> Callable[..., bytes]:
    """Makes responses: `respond(status, body, kind, header=value)`."""
    return response


@pytest.fixture
def order() -> Callable[..., ScaleOrder]:
    """Makes wishes: `order(backends, running, key)`."""
    return an_order


@pytest.fixture
def pool() -> ScaledPool:
    """Two A100 for each backend."""
    return POOL


@pytest.fixture
def mixed(plan):
    """The plan with slices for two pools: one bucket for the first, the next for the second."""
    weights = tuple(
        tuple(float(place == bucket % 2) for place in range(len(row))) if any(row) else row
        for bucket, row in enumerate(plan.weights)
    )
    return replace(plan, backends=(4, 1, 0), weights=weights)
