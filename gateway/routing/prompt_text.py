"""Tells what a prompt weighs: the bytes of its text, and what else there is in it. Pure.

An engine turns text into tokens by its bytes, but a picture, a sound or a file by rules of their
own, which do not depend on how many bytes of Base64 stand in the body, or behind a URL. So those
are counted by kind, wherever they stand, and their bytes are not.

Only what must be looked into is decoded: a string without escapes is as long as its raw bytes.
"""

import re
from contextlib import suppress
from typing import Final

import msgspec

from gateway.routing.elements import PART_BYTES, Elements, elements_of, too_many

# Kinds of what is no text.
IMAGE: Final = "image"
AUDIO: Final = "audio"
VIDEO: Final = "video"
FILE: Final = "file"
OTHER: Final = "other"

KINDS: Final = {
    "image": IMAGE, "screenshot": IMAGE, "audio": AUDIO, "video": VIDEO, "file": FILE,
    "document": FILE,
}  # fmt: skip
# Types of parts, and keys in parts without a type, of OpenAI, Anthropic, vLLM and SGLang.
FOREIGN: Final = re.compile(
    r"(?:input_|output_|computer_)?(image|screenshot|audio|video|file|document)"
    r"(?:_url|_file|_data|_embeds|_pil|_generation_call)?"
)
UNKNOWN: Final = ("_url", "_embeds")  # ends of types that are not known here, and are no text
TYPED: Final = (b'"text"', b'"content"')  # an Anthropic document whose source is text
# Values that no template writes into the prompt.
STRUCTURE: Final = frozenset(
    ("type", "role", "id", "call_id", "tool_call_id", "tool_use_id", "index", "status",
     "cache_control", "signature")
)  # fmt: skip
# Keys of strings that engines read as text, whatever they look like.
TEXTS: Final = frozenset(
    ("text", "content", "output", "arguments", "input", "thinking", "reasoning", "refusal", "name",
     "title", "description", "summary", "query")
)  # fmt: skip
# A string under any other key that begins as a data URL, or with so many characters of Base64, is
# no text. Names, paths and hashes are shorter. PHP writes a backslash before each slash.
ENCODED: Final = re.compile(rb'"(?:data:[\w.+/\\-]{1,80}[;,]|[\w+/=\\-]{200})')
# Where the payload of a part stands, or the place from which an engine fetches it.
PLACES: Final = frozenset(("url", "data", "file_data", "file_id", "uuid"))
PLACE: Final = re.compile(rb'"(?:data:|https?:|file:|s3:|gs:|[\w+/=\\-]{200})')
PARTS: Final = 1  # the level of the parts of a message; those in results of tools have a type
DEEPEST: Final = 8  # levels that are looked into; deeper ones count as text
NUMBERS: Final = b", \t\r\n[]"  # what stands between numbers
NULL: Final = b"null"
BACKSLASH: Final = b"\\"
ESCAPE: Final = b"\\u"
_STRING: Final = msgspec.json.Decoder(str)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class PromptText:
    """The sums over a prompt while it is read.

    text_bytes: of its text as UTF-8. wide_bytes: how many more these are than characters. payload:
    numbers of things that are no text, by kind; `None` if there is none. later: takes long lists in
    the prompt, which are then left out; `None`: they are read at once.
    """

    __slots__ = ("later", "payload", "text_bytes", "wide_bytes")

    def __init__(self, later: list[Elements] | None = None) -> None:
        self.later = later
        self.text_bytes = self.wide_bytes = 0
        self.payload: dict[str, int] | None = None

    def __repr__(self) -> str:
        return f"<PromptText of {self.text_bytes} bytes and {self.payload or 'nothing else'}>"

    def add(self, text: str) -> None:
        """Add a decoded text."""
        size = len(text)
        if not text.isascii():
            characters = size
            size = len(text.encode("utf-8", "surrogatepass"))
            self.wide_bytes += size - characters
        self.text_bytes += size

    def add_string(self, raw: bytes) -> None:
        """Add a JSON string. An escape counts as the bytes that it stands for."""
        if BACKSLASH not in raw and raw.isascii():
            self.text_bytes += len(raw) - 2
            return
        try:
            self.add(_STRING.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):  # half of a pair of surrogates
            self.text_bytes += len(raw) - 2

    def add_json(self, raw: bytes) -> None:
        """Add what templates write into the prompt as JSON: tools and their calls."""
        if raw == NULL:
            return
        raw = _unescaped(raw)
        self.text_bytes += len(raw)
        if not raw.isascii():
            self.wide_bytes += len(raw) - len(raw.decode(errors="ignore"))

    def add_content(self, raw: bytes, depth: int = 0) -> int:
        """Add a content of any shape: a string, a part, or a list of them. Returns how many it
        lists; 1 if it is no list."""
        first = raw[:1]
        if first == b'"':
            self.add_string(raw)
        elif first == b"{":
            self._add_object(raw, depth)
        elif first == b"[":
            if b'"' not in raw and b"{" not in raw and b"[" not in raw[1:]:
                # Numbers, of which there may be very many.
                nothing = raw.count(NULL) * len(NULL)
                self.text_bytes += len(raw.translate(None, NUMBERS)) - nothing
                return raw.count(b",") + 1
            if self.later is not None and len(raw) > PART_BYTES and depth < DEEPEST:
                self.later.append(Elements(raw, depth + 1))
                return 1
            items = _items(raw) if depth < DEEPEST else None
            if items is None:
                self.add_raw(raw)
            else:
                for item in items:
                    self.add_content(bytes(item), depth + 1)
                return len(items)
        elif raw != NULL:
            self.add_raw(raw)
        return 1

    def add_raw(self, raw: bytes) -> None:
        """Add what is not looked into."""
        self.text_bytes += len(raw)

    def count(self, kind: str, number: int = 1) -> None:
        """Add something that is no text."""
        if self.payload is None:
            self.payload = {}
        self.payload[kind] = self.payload.get(kind, 0) + number

    def add_all(self, other: "PromptText", times: int) -> None:
        """Add everything of another prompt, so many times."""
        self.text_bytes += other.text_bytes * times
        self.wide_bytes += other.wide_bytes * times
        if other.payload is not None:
            for kind, number in other.payload.items():
                self.count(kind, number * times)

    def _add_object(self, raw: bytes, depth: int) -> None:
        fields = _fields(raw) if depth < DEEPEST else None
        if fields is None:
            self.add_raw(raw)
            return
        kind = _kind(fields)
        if kind is not None:
            self.count(kind)
            return
        structured = "type" in fields or "role" in fields
        for name, raw_value in fields.items():
            value = bytes(raw_value)
            if not structured:  # data, whose keys are part of the text
                self.add_raw(name.encode("utf-8", "surrogatepass"))
            elif name in STRUCTURE:
                continue
            found = FOREIGN.fullmatch(name) if depth <= PARTS else None
            if found is not None and _placed(value):
                self.count(KINDS[found[1]])
            elif name not in TEXTS and ENCODED.match(value) is not None:
                self.count(OTHER)
            else:
                self.add_content(value, depth + 1)


class PromptTexts(PromptText):
    """The same, which keeps the texts too, each by itself. texts: in the order of the prompt."""

    __slots__ = ("texts",)

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def add(self, text: str) -> None:
        self.texts.append(text)

    def add_string(self, raw: bytes) -> None:
        try:
            self.texts.append(_STRING.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.add_raw(raw)

    def add_json(self, raw: bytes) -> None:
        if raw == NULL:
            return
        self.add_raw(_unescaped(raw))

    def add_raw(self, raw: bytes) -> None:
        self.texts.append(raw.decode(errors="replace"))


def _unescaped(raw: bytes) -> bytes:
    """JSON with the characters that its escapes stand for, as templates write it."""
    if BACKSLASH in raw and ESCAPE in raw and not too_many(raw):
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return msgspec.json.encode(msgspec.json.decode(raw))
    return raw


def _placed(value: bytes) -> bool:
    """Whether a value is a payload or says where it is."""
    if value[:1] == b"{":
        fields = _fields(value)
        return fields is not None and not PLACES.isdisjoint(fields)
    return PLACE.match(value) is not None


def _kind(fields: dict[str, msgspec.Raw]) -> str | None:
    """The kind of a part that is no text, by its type; `None` for text."""
    typed = fields.get("type")
    if typed is None:
        return None
    name = bytes(typed).decode(errors="replace").strip('"')
    found = FOREIGN.fullmatch(name)
    if found is None:
        return OTHER if name.endswith(UNKNOWN) else None
    source = fields.get("source")
    if name == "document" and source is not None:
        of_source = _fields(bytes(source)) or {}
        if bytes(of_source.get("type", b"")) in TYPED:
            return None
    return KINDS[found[1]]


def _items(raw: bytes) -> list[msgspec.Raw] | None:
    """The elements of a list; `None` if they are too many to look into."""
    if too_many(raw):
        return None
    return elements_of(raw)


def _fields(raw: bytes) -> dict[str, msgspec.Raw] | None:
    """The fields of an object; `None` if they are too many to look into."""
    if too_many(raw):
        return None
    try:
        return _OBJECT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
