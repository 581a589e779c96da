"""Streams that are held open, so that an engine is busy."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from tests.real import metric_page, wire
from tests.real.cases import MODEL, USER
from tests.real.servers import Running, until

TRIES = 10
MOST = 200
BEGUN_S = 10.0
BUSY = ("vllm:num_requests_running", "vllm:num_requests_waiting", "llamacpp:requests_processing")
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


@contextmanager
def filled(server: Running) -> Iterator[None]:
    """An engine with more and more long answers until it refuses one, for lack of room: requests
    that come in one moment may pass its limit."""
    with ExitStack() as stack:
        for _ in range(MOST):
            asked = wire.request(server.url, CHAT, LONG, headers=server.headers)
            stack.enter_context(asked)
            if asked.recv(16, socket.MSG_PEEK).startswith(b"HTTP/1.1 503"):
                yield
                return
        raise AssertionError(f"{server.url} took {MOST} requests and refused none")


def page(server: Running) -> str:
    """The metrics of an engine, or of a gateway's admin port."""
    return wire.ask(server.admin or server.url, "/metrics", method="GET").body.decode()


def metric(server: Running, name: str) -> float:
    """The sum of a metric's samples, 0 without any."""
    return metric_page.sample(page(server), name) or 0.0


def spared(asked: Running, engine: Running, counter: str, *, stream: bool) -> bool:
    """Whether an engine makes no more of an answer whose client has left; an answer that was over
    before is tried again. asked: the engine, or a gateway before it. counter: of its tokens."""
    for _ in range(TRIES):
        before = metric(engine, counter)
        body = {**LONG, "stream": stream}
        with wire.request(asked.url, CHAT, body, headers=asked.headers) as connection:
            if stream:
                came = b""
                while b"data:" not in came:
                    came += connection.recv(4096)
            else:
                until(partial(_grown, engine, counter, before), BEGUN_S)
        until(partial(idle, engine), BEGUN_S)
        if 0 < metric(engine, counter) - before < body["max_tokens"]:
            return True
    return False


def idle(engine: Running) -> bool:
    """Whether an engine, vLLM or llama.cpp, says that it has no requests."""
    shown = page(engine)
    return not any(metric_page.sample(shown, name) for name in BUSY)


def _grown(engine: Running, counter: str, before: float) -> bool:
    return metric(engine, counter) > before
