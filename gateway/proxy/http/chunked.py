"""The chunked transfer coding of RFC 9112 §7.1, for chunks that have come whole.

Takes whole chunks apart without a parser. Knows no connection; whatever is not a sequence of whole
and plain chunks is left to llhttp.
"""

from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"
HEX: Final = b"0123456789abcdefABCDEF"
REMEMBERED: Final = 4096
_SIZES: Final[dict[bytes, int]] = {}  # of chunks, by their digits


def chunk(data: bytes) -> bytes | None:
    """What one HTTP chunk holds that is whole; `None`: not just one, or the last of all."""
    if data[3:5] == b"\r\n":
        end = 3
    elif data[2:4] == b"\r\n":
        end = 2
    else:
        end = data.find(b"\r\n", 0, 12)
        if end < 0:
            return None
    size = _size(data[:end])
    if size <= 0 or len(data) != end + size + 4 or data[-2:] != b"\r\n":
        return None
    return data[end + 2 : -2]


def chunks(data: bytes) -> bytes | None:
    """What HTTP chunks hold, together; `None`: not all of them whole, or the last of all."""
    at, pieces = 0, []
    while at < len(data):
        end = data.find(b"\r\n", at, at + 12)
        if end < 0:
            return None
        size = _size(data[at:end])
        at, end = end + size + 4, end + 2
        if size <= 0 or at > len(data) or data[at - 2 : at] != b"\r\n":
            return None
        pieces.append(data[end : at - 2])
    return b"".join(pieces)


def _size(digits: bytes) -> int:
    size = _SIZES.get(digits)
    if size is None:
        size = 0 if not digits or digits.translate(None, HEX) else int(digits, 16)
        if len(_SIZES) >= REMEMBERED:
            _SIZES.clear()
        _SIZES[digits] = size
    return size
