"""Compressed bodies are decoded within bounds, whatever they would decode to."""

import gzip
import importlib
import struct
import sys
import zlib

import pytest

from gateway.errors import BadRequest, TooLarge, UnsupportedCoding
from gateway.proxy.http.content_coding import MEMBERS, decode
from gateway.proxy.http.request import Request

zstd = importlib.import_module(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)
LIMIT = 1 << 20
TEXT = b'{"model":"m"}' * 50
CODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}
PARTS = ("gzip", "zstd")


def request(body, *codings):
    headers = [(b"host", b"h"), *((b"content-encoding", name.encode()) for name in codings)]
    return Request(
        method=b"POST", target=b"/", headers=headers, body=body, keep_alive=True, http11=True
    )


def decoded(body, *codings, limit=LIMIT):
    one = request(body, *codings)
    decode(one, limit)
    assert b"content-encoding" not in one.fields
    assert one.headers == [(b"host", b"h")]
    return one.body


@pytest.mark.parametrize("name", CODERS)
def test_a_body_is_what_was_compressed(name):
    """Also of names in capitals, and an empty one."""
    code = CODERS[name]

    assert decoded(code(TEXT), name) == TEXT
    assert decoded(code(TEXT), name.upper(), "identity") == TEXT
    assert decoded(code(b""), name) == b""


def test_two_codings_are_undone_in_their_order():
    """The last that was applied comes off first; more than two are refused."""
    both = zstd.compress(gzip.compress(TEXT))

    assert decoded(both, "gzip", "zstd") == TEXT
    assert decoded(both, "gzip, zstd") == TEXT
    with pytest.raises(UnsupportedCoding):
        decoded(both, "gzip", "zstd", "gzip")
    with pytest.raises(UnsupportedCoding, match="br"):
        decoded(both, "br")


@pytest.mark.parametrize("name", PARTS)
def test_a_body_of_some_parts_is_all_of_them(name):
    """So many that each can be copied with what follows, and no more."""
    part = CODERS[name](TEXT)

    assert decoded(part * MEMBERS, name) == TEXT * MEMBERS
    with pytest.raises(BadRequest, match="more than"):
        decoded(part * (MEMBERS + 1), name)
    with pytest.raises(BadRequest, match="more than"):
        decoded(CODERS[name](b"") * 100_000, name)


@pytest.mark.parametrize("name", CODERS)
def test_nothing_decodes_to_more_than_a_body_may_have(name):
    """Neither at once nor in parts; just as much is fine."""
    code = CODERS[name]

    assert len(decoded(code(b"0" * LIMIT), name)) == LIMIT
    with pytest.raises(TooLarge):
        decoded(code(b"0" * (LIMIT + 1)), name)
    with pytest.raises(TooLarge):
        decoded(code(b"0" * (64 * LIMIT)), name)
    if name in PARTS:
        with pytest.raises(TooLarge):
            decoded(code(b"0" * LIMIT) + code(b"0"), name)


def test_a_frame_that_wants_much_memory_is_refused_before_it_gets_any():
    """A head of a few bytes can ask for a window of gigabytes (RFC 8878 §3.1.1.1.2): it gets what
    HTTP allows, or what a body may have."""

    def frame(log, content=b"x"):
        """One raw block behind a head without a content size, with this window."""
        block = (len(content) << 3 | 1).to_bytes(3, "little") + content
        return struct.pack("<IBB", 0xFD2FB528, 0, (log - 10) << 3) + block

    assert decoded(frame(23), "zstd") == b"x"
    with pytest.raises(BadRequest, match="memory"):
        decoded(frame(24), "zstd")
    assert decoded(frame(25), "zstd", limit=1 << 25) == b"x"
    with pytest.raises(BadRequest, match="memory"):
        decoded(frame(31), "zstd", limit=1 << 25)


@pytest.mark.parametrize("name", CODERS)
def test_what_is_not_what_its_header_says_is_the_clients_mistake(name):
    """Cut off, changed, or something else."""
    whole = CODERS[name](TEXT)

    for body in (whole[:-1], whole[:9], b"plain", TEXT, whole[:5] + b"\xff" * 9 + whole[14:]):
        with pytest.raises(BadRequest, match=f"is not valid {name}"):
            decoded(body, name)
