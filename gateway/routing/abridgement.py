"""A body without the inside of its pictures, sounds and files. Pure.

What they weigh does not depend on their bytes, of which there may be many megabytes, and everything
that reads a body would pass over them again.
"""

import re
from typing import Final

LONG: Final = 16_384  # bytes of a payload; a shorter one stays
KEPT: Final = 1024  # of a long one: enough to tell what it is
MOST: Final = 1024  # places that are looked at
# A key whose value may be a payload, or the beginning of a data URL, which is one after such a key.
PLACE: Final = b'"data'
KEY: Final = re.compile(rb'"data"\s*:\s*"')
URL: Final = re.compile(rb'"(?:url|file_data|(?:image|audio|video|file)_url)"\s*:\s*\Z')
LONGEST_KEY: Final = 32
BACKSLASH: Final = b"\\"
ESCAPE: Final = 6  # bytes of the longest escape


def abridged(body: bytes) -> bytes:
    """The body with long payloads cut short; the same JSON otherwise."""
    pieces: list[bytes] = []
    at = end = 0
    for _ in range(MOST):
        place = body.find(PLACE, end)
        if place < 0:
            break
        end = place + len(PLACE)
        start = _start(body, place)
        if start < 0:
            continue
        end = body.find(b'"', start)
        if end < 0:
            break
        cut = start + KEPT
        if end - start < LONG or body[end - 1 : end] == BACKSLASH:
            continue
        if BACKSLASH in body[cut - ESCAPE : cut]:  # .NET escapes the plus sign
            cut = body.find(BACKSLASH, cut - ESCAPE)
        pieces.append(body[at:cut])
        at = end
    return b"".join([*pieces, body[at:]]) if pieces else body


def _start(body: bytes, place: int) -> int:
    """Where the text of a payload begins; -1 if none does at this place."""
    key = KEY.match(body, place)
    if key is not None:
        return key.end()
    before = body[max(0, place - LONGEST_KEY) : place]
    is_url = body[place + 5 : place + 6] == b":" and URL.search(before) is not None
    return place + 1 if is_url else -1
