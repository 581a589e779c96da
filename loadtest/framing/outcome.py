"""Sends the messages of the corpus, and says in one line what a server made of each."""

import asyncio
from contextlib import suppress

from loadtest.framing.corpus import NEXT

QUIET_S = 1.0  # without a byte: the server waits for more
ASK = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
ECHO = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"


async def request_outcome(port: int, data: bytes) -> str:
    """What a server on this port, or the one behind it, answers to a request and `NEXT`: each
    status, and for 200 what it says it has served; `waits` if it wants more; `reset` if it has gone
    without a word."""
    answers, waits = await answered(port, data + NEXT)
    parts = []
    while answers:
        status, body, answers = parted(answers)
        if body is None:
            parts.append("broken")
        elif status != "100":
            parts.append(f"200 {body.decode('latin-1')}" if status == "200" else status)
    return ", ".join(parts + ["waits"] * waits) or "reset"


async def reply_outcome(port: int) -> str:
    """What a proxy on this port makes of its backend's reply: status and body, or `broken`, also
    for a status of the proxy's own."""
    answer, waits = await answered(port, ASK)
    status, body, rest = parted(answer)
    while status == "100":
        status, body, rest = parted(rest)
    if waits or body is None or status in ("500", "502", "503", "504"):
        return "broken"
    return f"{status} {body.decode('latin-1')}"


async def answered(port: int, data: bytes) -> tuple[bytes, bool]:
    """All that comes until the end of the connection; and whether it did not end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came, waits = b"", False
    try:
        writer.write(data)
        with suppress(ConnectionError):
            while piece := await asyncio.wait_for(reader.read(65536), QUIET_S):
                came += piece
    except TimeoutError:
        waits = True
    finally:
        writer.transport.abort()
    return came, waits


def parted(data: bytes) -> tuple[str, bytes | None, bytes]:
    """The first of several answers: its status, its body, which is `None` if it is cut or not
    HTTP/1, and what follows."""
    head, found, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    if not found or not first.startswith(b"HTTP/1."):
        return "", None, b""
    status = first[9:12].decode("latin-1")
    pairs = (line.partition(b":") for line in lines)
    fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if fields.get(b"transfer-encoding") == b"chunked":
        return status, *dechunked(rest)
    if status in ("100", "204"):
        return status, b"", rest
    size = int(fields.get(b"content-length", b"%d" % len(rest)))
    return status, rest[:size] if len(rest) >= size else None, rest[size:]


def dechunked(data: bytes) -> tuple[bytes | None, bytes]:
    """The body of whole chunks, and what follows; `None` if the last one is missing."""
    body = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line or b"0", 16) if line else -1
        if size < 0 or len(data) < size + 2:
            return None, b""
        body, data = body + data[:size], data[size + 2 :]
        if size == 0:
            return body, data
