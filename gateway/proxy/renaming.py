"""Puts another model name into a request, and the client's own back into its answer. No I/O.

Nothing is decoded or encoded again: the bytes of one value take the place of another's, so that all
else stays as the client sent it and the engine wrote it.
"""

import json
import re
from typing import Final

from gateway.routing.form import with_model

KEY: Final = b'"model"'
OBJECT: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{")  # perhaps with a byte order mark
# The first key of most requests; what follows is its value.
FIRST: Final = re.compile(rb'\s*\{\s*"model"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
VALUE: Final = re.compile(rb'\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
# What changes the depth of JSON text, and strings, in which the others mean nothing.
TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)
FORM: Final = b"--"  # how a form begins, and no JSON
OPEN: Final = (b"{", b"[")
# The first name of a model in the data of each event.
TOLD: Final = re.compile(
    rb'^(data:[^\n]*?"model"\s*:\s*)"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL | re.MULTILINE
)


class Renaming:
    """The name by which one client asked, and that of one pool's engines; never changed."""

    __slots__ = ("_asked", "_plain", "_served", "_told")

    def __init__(self, asked: str, served: str) -> None:
        self._asked = json.dumps(asked, ensure_ascii=False).encode()
        self._served = json.dumps(served, ensure_ascii=False).encode()
        self._plain = served.encode()
        forms = dict.fromkeys((self._served, json.dumps(served).encode()))
        forms |= dict.fromkeys([form.replace(b"/", b"\\/") for form in forms])
        # As engines write it: with and without a blank, and escaped in more than one way.
        self._told = tuple(KEY + colon + form for form in forms for colon in (b":", b": "))

    def __repr__(self) -> str:
        return f"<Renaming {self._asked.decode()} to {self._served.decode()}>"

    def request(self, body: bytes) -> bytes:
        """A request with the engine's name."""
        if body[:2] == FORM:
            return with_model(body, self._plain)
        return replaced(body, self._served)

    def answer(self, body: bytes) -> bytes:
        """A whole answer with the client's name, whatever name the engine wrote."""
        return replaced(body, self._asked)

    def events(self, piece: bytes) -> bytes:
        """Events of a stream with the client's name. Inside a string of JSON the quotes of a key
        would have backslashes, so that no text of the answer looks like it. An engine of several
        names may write another one than it was asked by."""
        if KEY not in piece:
            return piece
        found = False
        for told in self._told:
            if told in piece:
                found, piece = True, piece.replace(told, KEY + b":" + self._asked)
        return piece if found else TOLD.sub(self._renamed, piece)

    def _renamed(self, match: "re.Match[bytes]") -> bytes:
        return match[1] + self._asked


def replaced(body: bytes, name: bytes) -> bytes:
    """The JSON object `body` with another value, `name`, of its own key `model`, however often it
    stands there; keys of that name further inside stay. Unchanged if it has none, or no text."""
    if OBJECT.match(body) is None:
        return body
    if body.count(KEY) == 1:
        first = FIRST.match(body)
        if first is not None:
            return body[: first.start(1)] + name + body[first.end(1) :]
    pieces, at = [], 0
    for start, end in _values(body):
        pieces += [body[at:start], name]
        at = end
    return b"".join([*pieces, body[at:]])


def _values(body: bytes) -> list[tuple[int, int]]:
    """Where the values of the outermost keys `model` stand."""
    found = []
    depth = 0
    for token in TOKEN.finditer(body):
        text = token.group()
        if text in OPEN:
            depth += 1
        elif text[:1] != b'"':
            depth -= 1
        elif depth == 1:
            value = VALUE.match(body, token.end())
            # A string is a key if a colon follows; of the value of `model`, none does.
            if value is not None and _is_key(text):
                found.append((value.start(1), value.end(1)))
    return found


def _is_key(text: bytes) -> bool:
    """Whether a string of JSON is `model`; it may be written with escapes."""
    if text == KEY:
        return True
    try:
        return b"\\u" in text and bool(json.loads(text) == "model")
    except ValueError:
        return False
