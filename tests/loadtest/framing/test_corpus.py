"""What the gateway makes of the corpus, over real sockets."""

import re
from pathlib import Path

import pytest

from loadtest.framing import gateway
from loadtest.framing.corpus import REPLIES, REQUESTS
from loadtest.framing.outcome import parted, request_outcome

PAGE = Path(__file__).resolve().parents[3] / "docs" / "http.md"


@pytest.mark.parametrize("case", REQUESTS)
async def test_requests_are_framed_as_the_corpus_says(case):
    """Each with another one behind it, so that one that ends elsewhere is seen."""
    data, expected = REQUESTS[case]
    async with gateway.echo_port() as port:
        assert await request_outcome(port, data) == expected


@pytest.mark.parametrize("case", REPLIES)
async def test_replies_are_framed_as_the_corpus_says(case):
    """What cannot be trusted is an error, never a shorter answer."""
    data, expected = REPLIES[case]
    async with gateway.reply_port(data) as port:
        assert await gateway.pool_outcome(port) == expected


def test_the_page_shows_the_corpus():
    """Every case with the outcome that the tests above hold."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]*) \|.* \|$", PAGE.read_text(), re.MULTILINE)
    cases = [*REQUESTS.items(), *REPLIES.items()]

    assert [(name, ours.strip()) for name, ours in rows if name != "case"] == [
        (name, expected.strip()) for name, (_, expected) in cases
    ]


def test_answers_are_taken_apart_by_their_framing():
    """By length, by chunks, and not at all where they are cut."""
    ok = b"HTTP/1.1 200 OK\r\n"

    assert parted(ok + b"content-length: 2\r\n\r\nabc") == ("200", b"ab", b"c")
    assert parted(ok + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nb") == (
        "200", b"a", b"b",
    )  # fmt: skip
    assert parted(ok + b"content-length: 2\r\n\r\na")[1] is None
    assert parted(ok + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n")[1] is None
    assert parted(b"junk\r\n\r\n")[1] is None
