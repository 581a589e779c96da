"""Takes apart whole chunks of the chunked transfer coding (RFC 9112 §7.1). No I/O.

This is the part of the coding that nearly every read of a stream consists of. Chunk extensions,
trailers, the last chunk and chunks that are cut by a read are left to llhttp.
"""

import re
from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"
HEX: Final = b"0123456789abcdefABCDEF"
SIZE_BYTES: Final = 12  # in which the line of a chunk's size must end; llhttp reads longer ones
REMEMBERED: Final = 4096  # sizes; then all are forgotten, so that a backend cannot fill the memory
# The line of a chunk: its size, and perhaps extensions. A trailer, which has a colon, is none.
SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\r\n]*)?\r\n")
_SIZES: Final[dict[bytes, int]] = {}  # by the digits: looking a size up costs half of int(…, 16)


def chunk(data: bytes) -> bytes | None:
    """The content of `data` if it is one whole chunk; else `None`, and for the last chunk too."""
    if data[3:5] == b"\r\n":  # most events have a size of two or three digits
        end = 3
    elif data[2:4] == b"\r\n":
        end = 2
    else:
        end = data.find(b"\r\n", 0, SIZE_BYTES)
        if end < 0:
            return None
    size = _size(data[:end])
    if size <= 0 or len(data) != end + size + 4 or data[-2:] != b"\r\n":
        return None
    return data[end + 2 : -2]


def chunks(data: bytes) -> bytes | None:
    """The joined content of `data` if it is a sequence of whole chunks; else `None`, and if the
    last chunk is among them too."""
    at, pieces = 0, []
    while at < len(data):
        end = data.find(b"\r\n", at, at + SIZE_BYTES)
        if end < 0:
            return None
        size = _size(data[at:end])
        at, end = end + size + 4, end + 2
        if size <= 0 or at > len(data) or data[at - 2 : at] != b"\r\n":
            return None
        pieces.append(data[end : at - 2])
    return b"".join(pieces)


def size_of_open(data: bytes, come: int) -> int | None:
    """The size of the chunk whose first bytes `data` ends with; `None` if `data` does not hold the
    whole line of it. come: how many bytes of the chunk are in `data`.

    llhttp does not tell the size of a chunk, so its line is read again.
    """
    end = len(data) - come
    start = data.rfind(b"\r\n", 0, max(end - 2, 0))
    line = SIZE_LINE.fullmatch(data, start + 2, end) if start >= 0 else None
    return None if line is None else int(line[1], 16)


def _size(digits: bytes) -> int:
    """The size of a chunk in bytes; 0 if these are no digits. RFC 9112 §7.1 allows nothing else
    here, and Python's int() would take a sign, blanks and underscores."""
    size = _SIZES.get(digits)
    if size is None:
        size = 0 if not digits or digits.translate(None, HEX) else int(digits, 16)
        if len(_SIZES) >= REMEMBERED:
            _SIZES.clear()
        _SIZES[digits] = size
    return size
