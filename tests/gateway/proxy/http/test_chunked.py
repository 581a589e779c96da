"""Chunks that have come whole: they are what they hold, and anything else is for the parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.http.chunked import LAST_CHUNK, chunk, chunks


@pytest.mark.parametrize("size", [1, 9, 10, 15, 16, 255, 4096, 70000])
@pytest.mark.parametrize("form", [b"%x", b"%X", b"00%x"])
def test_one_whole_chunk_is_its_content(size, form):
    """Whatever its size, seen before or not."""
    piece = b"\r" * size
    for _ in range(2):
        assert chunk(form % size + b"\r\n" + piece + b"\r\n") == piece


@pytest.mark.parametrize(
    "data",
    [
        b"", b"2\r\n", b"2\r\nab", b"2\r\nab\r", b"2\r\nab\n\r", b"2\r\nab\r\n1", b"2\r\nabc\r\n",
        b"0\r\n\r\n", b"2;a=b\r\nab\r\n", b" 2\r\nab\r\n", b"+2\r\nab\r\n", b"0x2\r\nab\r\n",
        b"-2\r\nab\r\n", b"1_0\r\n" + b"a" * 16 + b"\r\n", b"\r\nab\r\n", b"2\nab\r\n",
        b"g\r\n\r\n",
        b"2\r\nab\r\n" * 2, b"00000000000002\r\nab\r\n",
    ],
)  # fmt: skip
def test_anything_but_one_whole_chunk_is_for_the_parser(data):
    """The last of all too: only the parser knows what ends with it."""
    assert chunk(data) is None
    assert chunks(data) in (None, b"", b"abab")  # none, or several


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_whole_chunks_are_what_they_hold(pieces):
    """Together; cut anywhere else they are not whole."""
    data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    assert chunks(data) == b"".join(pieces)
    assert chunks(data + LAST_CHUNK) is None
    if data:
        assert chunks(data[:-1]) is None
