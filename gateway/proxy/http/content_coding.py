"""Decodes the bodies of requests that clients have compressed (RFC 9110 §8.4). No I/O.

A few bytes can decode to gigabytes, so a body is decoded no further than the limit of a body.
"""

import importlib
import zlib
from collections.abc import Callable
from typing import Any, Final

from gateway.errors import BadRequest, TooLarge, UnsupportedCoding
from gateway.proxy.http.headers import Headers
from gateway.proxy.http.request import Request

CODING: Final = b"content-encoding"
MOST: Final = 2  # codings of one body; each takes the work of a whole decoding
# Members or frames of one coding: behind each, what follows is copied, and an empty one is short.
MEMBERS: Final = 16
# What a frame may need to look back to, as a power of two: 8 MiB, which is the most that is allowed
# in HTTP (RFC 9659 §3), or as much as a body may have. The memory is taken before it is decoded.
WINDOW_LOG: Final = 23
LARGEST_LOG: Final = 31
GZIP, ZLIB, RAW = 31, 15, -15  # zlib's `wbits`


def _zstd_module() -> Any:
    """Python's own zstd, which is there from 3.14, or the same for earlier ones; else `None`."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_ZSTD: Final[Any] = _zstd_module()


def decode(request: Request, limit: int) -> None:
    """Replace the body of a request by what it decodes to, and take the header away.

    limit: of the decoded body, in bytes. Raises UnsupportedCoding, TooLarge, and BadRequest where
    the body is not what its header says.
    """
    listed = b",".join(value for name, value in request.headers if name == CODING)
    names = [name.strip().lower() for name in listed.decode("latin-1").split(",")]
    codings = [name for name in names if name and name != "identity"]
    unknown = [name for name in codings if name not in CODINGS]
    if unknown or len(codings) > MOST:
        raise UnsupportedCoding(", ".join(unknown or codings), ", ".join(CODINGS))
    body = request.body
    for name in reversed(codings):  # in the order in which they were applied (RFC 9110 §8.4)
        try:
            body = CODINGS[name](body, limit)
        except (zlib.error, EOFError) as error:
            raise BadRequest(f"the body is not valid {name}: {error}") from error
    headers: Headers = [header for header in request.headers if header[0] != CODING]
    request.body, request.headers, request.fields = body, headers, dict(headers)
    request.end_to_end = None


def _gzip(body: bytes, limit: int) -> bytes:
    """A gzip file may have several members, one after the other (RFC 1952 §2.2)."""
    pieces: list[bytes] = []
    left = limit
    while body:
        _check_members(pieces)
        piece, body = _inflate(body, GZIP, left)
        pieces.append(piece)
        left -= len(piece)
        body = body.lstrip(b"\0")
    return b"".join(pieces)


def _deflate(body: bytes, limit: int) -> bytes:
    """The zlib format; some clients send its content alone (RFC 9110 §8.4.1.2)."""
    try:
        return _inflate(body, ZLIB, limit)[0]
    except zlib.error:
        return _inflate(body, RAW, limit)[0]


def _inflate(body: bytes, wbits: int, limit: int) -> tuple[bytes, bytes]:
    """The decoded bytes, and what follows them."""
    decompressor = zlib.decompressobj(wbits)
    piece = decompressor.decompress(body, limit + 1)
    if len(piece) > limit:
        raise TooLarge("The decoded body exceeds the limit of a body.")
    if not decompressor.eof:
        raise EOFError("it ends too early")
    return piece, decompressor.unused_data


def _unzstd(body: bytes, limit: int) -> bytes:
    """Frames one after the other (RFC 8878 §3.1)."""
    pieces: list[bytes] = []
    left = limit
    log = min(max(WINDOW_LOG, (limit - 1).bit_length()), LARGEST_LOG)
    options = {_ZSTD.DecompressionParameter.window_log_max: log}
    while body:
        _check_members(pieces)
        decompressor = _ZSTD.ZstdDecompressor(options=options)
        try:
            piece = decompressor.decompress(body, left + 1)
        except _ZSTD.ZstdError as error:
            raise EOFError(str(error)) from error
        left -= len(piece)
        if left < 0:
            raise TooLarge("The decoded body exceeds the limit of a body.")
        if not decompressor.eof:
            raise EOFError("it ends too early")
        pieces.append(piece)
        body = decompressor.unused_data
    return b"".join(pieces)


def _check_members(pieces: list[bytes]) -> None:
    if len(pieces) >= MEMBERS:
        raise EOFError(f"it has more than {MEMBERS} parts")


CODINGS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
}
if _ZSTD is not None:
    CODINGS["zstd"] = _unzstd
