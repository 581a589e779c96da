"""Reads one answer as a suspicious client: is it whole, and is it mine? No I/O."""

import re

from loadtest.soak.ledger import Ending
from loadtest.soak.traffic import EMBEDDINGS, Question, piece

PIECES = re.compile(rb"id=\d+\.\d+;-*")
DONE = b"data: [DONE]\n\n"


def read_answer(ask: Question, status: int, request_id: bytes, body: bytes) -> tuple[Ending, str]:
    """How the request ended, and what is odd about it."""
    if request_id != b"%d" % ask.number and ask.mistake != "path":
        return Ending.MIXED, f"the answer's x-request-id is {request_id.decode('latin-1')!r}"
    if status >= 400:
        own = b'"error"' in body
        return (Ending.REFUSED, "") if own else (Ending.LOST, f"{status} without an error object")
    if ask.mistake:
        return Ending.MIXED, f"a request with a mistake ({ask.mistake}) got {status}"
    if ask.path == EMBEDDINGS:
        own = b'"embedding":[%d.5]' % ask.number in body
        if b'"embedding":[' not in body.replace(b'"embedding":[]', b""):
            return Ending.LOST, f"{status} without an embedding"
        return (Ending.SERVED, "") if own else (Ending.MIXED, "not its own embedding")
    found = b"".join(PIECES.findall(body))
    expected = "".join(piece(ask.number, n, ask.padding) for n in range(ask.pieces)).encode()
    broken = ask.stream and not body.endswith(DONE)
    if broken and b'"error"' not in body[body.rfind(b"data: ") :]:
        return Ending.LOST, f"the stream ended cleanly after {len(found)} bytes of {len(expected)}"
    if not (found or broken):
        return Ending.LOST, f"{status} without anything of its answer"
    if found != expected and not (broken and expected.startswith(found)):
        return Ending.MIXED, f"{found[:60]!r} … in place of {expected[:60]!r} …"
    return (Ending.BROKEN, "") if broken else (Ending.SERVED, "")
