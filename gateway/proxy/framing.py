"""The framing of server-sent events: what a chunk of whole events consists of. No I/O."""

import re
from typing import Final

DATA: Final = b"data:"
STARTS: Final = (DATA, b"event:", b"id:", b"retry:", b":")  # of the first line of a stream
BLANK_BYTES: Final = 1024  # of white space that may stand before it
BOUNDARY: Final = re.compile(rb"\r?\n\r?\n")
RETURNS: Final = b"\r\r"  # two line ends of a stream that has no other


def events(chunk: bytes) -> list[bytes]:
    """The data of the events in a chunk of whole events, with `[DONE]` and without comments; white
    space around the data is kept. The data of one event may have several lines."""
    found: list[bytes] = []
    goes_on = False  # whether this event has data already
    for line in chunk.split(b"\n"):
        if line[: len(DATA)] == DATA:
            data = line[len(DATA) :]
            if goes_on:
                found[-1] += b"\n" + data
            else:
                found.append(data)
            goes_on = True
        elif not line or line == b"\r":
            goes_on = False
    return found


def in_lines(chunk: bytes) -> bytes:
    """A chunk whose line ends are not all carriage returns: a stream may have those alone, and JSON
    has none inside a string."""
    return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if RETURNS in chunk else chunk


def pieces(chunk: bytes) -> list[bytes]:
    """A chunk of whole events, cut after each of them; joined they are the chunk again."""
    cut, at = [], 0
    for match in BOUNDARY.finditer(chunk):
        cut.append(chunk[at : match.end()])
        at = match.end()
    if at < len(chunk):
        cut.append(chunk[at:])
    return cut


def looks_like_events(start: bytes) -> bool | None:
    """Whether a body begins like a stream of events; `None` if more of it must come."""
    begun = start.lstrip()
    if begun.startswith(STARTS):
        return True
    unknown = len(start) < BLANK_BYTES and any(s.startswith(begun) for s in STARTS)
    return None if unknown else False
