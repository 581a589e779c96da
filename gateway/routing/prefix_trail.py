"""Names the beginnings of a prompt by hashes, so that they are known again; keeps no text. Pure.

An engine keeps the KV of whole blocks of tokens, each named by all that is before it. The gateway
has no tokens, but two prompts that begin with the same bytes begin with the same tokens. So it
hashes ever longer beginnings of the bytes in which the prompt stands, undecoded, at a few lengths
to each power of two. Hashes are salted, so that none can be looked up in a list made beforehand;
under one salt they are the same in all processes. A CRC is as fast as Python's own hash of bytes,
which is another one in each process.
"""

from typing import Final
from zlib import crc32

from gateway.routing.endpoints import COMPLETIONS
from gateway.routing.llm_request import LlmRequest

FIRST: Final = 1024  # bytes of the shortest beginning; to compute less again takes milliseconds
MOST: Final = 1 << 20  # bytes that are looked at
PER_OCTAVE: Final = 2  # of what two prompts share, two thirds or more are known again
# A piece up to this long is hashed whole, of a longer one so many bytes at both ends: so 16 KiB
# cost what 5 do, and 1 MiB what 11 do, 3 µs. Prompts that part do so for good: what follows has
# other places. Where they do not (a number of the same length in the middle), an answer tells.
WHOLE: Final = 1024
SEEN: Final = 256
SMALL: Final = (1 << 60) - 1  # what compiled code keeps without an object
KEYS: Final = {"messages": b'"messages"', "prompt": b'"prompt"', "input": b'"input"'}
SESSION: Final = 1  # tells the name of a conversation from what is beside a prompt
SIGNS: Final = b" \t\r\n:"
LIST: Final = b"["
NESTED: Final = (b'"', b"[")  # how an element begins that is a prompt of its own


def _ends() -> list[int]:
    """The lengths of the beginnings, in bytes, ascending."""
    ends, octave = [], FIRST
    while octave < MOST:
        ends += [octave + octave * part // PER_OCTAVE for part in range(PER_OCTAVE)]
        octave *= 2
    return [*ends, MOST]


ENDS: Final = _ends()


class PrefixTrail:
    """The beginnings of one prompt, and where they are known.

    hashes: of its beginnings, ascending. ends: bytes of each. total: of the whole prompt. session:
    hash of the name of a conversation, 0 if it has none. shares: of its tokens, those that a
    backend has as far as is known, by its name. looked_s: when that was found. predicted: the share
    at the backend that it was placed on, as its hashes say; `None` until then. sent_to: its pool.
    """

    __slots__ = ("ends", "hashes", "looked_s", "predicted", "sent_to", "session", "shares", "total")

    def __init__(self, hashes: list[int], ends: list[int], total: int, *, session: int = 0) -> None:
        self.hashes = hashes
        self.ends = ends
        self.total = total
        self.session = session
        self.shares: dict[str, float] = {}
        self.looked_s = -1.0
        self.predicted: float | None = None
        self.sent_to = ""

    def __repr__(self) -> str:
        return f"<PrefixTrail of {len(self.hashes)} beginnings, known at {len(self.shares)}>"


def trail_of(
    request: LlmRequest, body: bytes, *, salt: int, owner: str = "", session: bytes | None = None
) -> PrefixTrail | None:
    """The trail of a request; `None` if nothing of it is worth to be known again.

    body: all of it. salt: the same for all whose trails are compared. owner: of what is shared with
    nobody else. session: the name of its conversation in a header; the body may have one too.
    """
    named = session is not None or request.session is not None
    beside = request.beside_bytes
    if len(body) < FIRST and not named:
        return None
    endpoint = request.endpoint
    if not endpoint.generates or endpoint.form or request.prompts != 1:
        return None
    key = KEYS[endpoint.prompt]
    start = body.find(key)
    if start < 0:
        return None
    start += len(key)
    if endpoint is COMPLETIONS and _lists(body, start):  # one of several prompts, or of their parts
        return None
    size = len(body) - start
    whose = crc32(f"{request.model} {owner}".encode())
    state = hash((salt, whose, request.beside)) & SMALL
    talk = 0
    if named:
        name = session if session is not None else (request.session or "").encode()
        talk = hash((salt, whose, crc32(name), SESSION)) & SMALL or 1
    hashes: list[int] = []
    ends: list[int] = []
    if beside >= FIRST:  # tools and the like, which templates put first
        hashes.append(state)
        ends.append(beside)
    before = 0
    for end in ENDS:
        if end > size:
            break
        if end - before <= WHOLE:
            piece = body[start + before : start + end]
        else:
            cut = start + end - SEEN
            piece = body[start + before : start + before + SEEN] + body[cut : start + end]
        state = hash((state, crc32(piece))) & SMALL
        hashes.append(state)
        ends.append(beside + end)
        before = end
    if not hashes and not talk:
        return None
    return PrefixTrail(hashes, ends, beside + size, session=talk)


def _lists(body: bytes, start: int) -> bool:
    """Whether a prompt is a list whose elements are prompts."""
    begin = body[start : start + 32].lstrip(SIGNS)
    return begin[:1] == LIST and begin[1:].lstrip(SIGNS)[:1] in NESTED
