"""Streams that are held open, so that an engine is busy."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.real import metric_page, wire
from tests.real.cases import MODEL, USER
from tests.real.servers import Running

CHAT = "/v1/chat/completions"
LONG: dict[str, Any] = {
    "model": MODEL, "messages": USER, "stream": True, "max_tokens": 450, "ignore_eos": True,
    "temperature": 0,
}  # fmt: skip


@contextmanager
def streams(server: Running, count: int) -> Iterator[list[socket.socket]]:
    """So many long answers of a server, begun, and under way until the end of the block."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(wire.request(server.url, CHAT, LONG, headers=server.headers))
            for _ in range(count)
        ]
        for connection in opened:  # the head comes when the engine has the request
            connection.recv(1, socket.MSG_PEEK)
        yield opened


def page(server: Running) -> str:
    """The metrics of an engine, or of a gateway's admin port."""
    return wire.ask(server.admin or server.url, "/metrics", method="GET").body.decode()


def metric(server: Running, name: str) -> float:
    """The sum of a metric's samples, 0 without any."""
    return metric_page.sample(page(server), name) or 0.0
