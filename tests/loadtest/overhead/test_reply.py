"""An HTTP reply read in any cuts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.overhead.reply import TAIL, ReplyReader

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@given(
    payloads=st.lists(
        st.sampled_from([b"data: {}\n\n", b"data:", b"da", b"ta: [DONE]\n\n", b"\r\n", b"x"])
    ),
    cut=st.integers(1, 50),
)
def test_a_chunked_reply_reads_the_same_however_it_is_cut(payloads: list[bytes], cut: int):
    """Body bytes, events and [DONE] do not depend on the reads or on the chunks."""
    frames = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in payloads)
    whole, body = HEAD + frames + b"0\r\n\r\n", b"".join(payloads)
    reply = ReplyReader()

    for at in range(0, len(whole), cut):
        assert not reply.done
        reply.feed(whole[at : at + cut])

    assert (reply.status, reply.done) == (200, True)
    assert reply.body_bytes == len(body)
    assert reply.events == body.count(b"data:")
    assert reply.saw_done == (b"data: [DONE]" in body[-TAIL:])


def test_a_reply_with_a_length_ends_when_it_is_complete():
    """The head's case and the cut between head and body do not matter."""
    reply = ReplyReader()

    for part in (b"HTTP/1.1 503 No\r\nContent-Le", b"ngth: 4\r\n\r", b"\nab", b"cd"):
        assert not reply.done
        reply.feed(part)

    assert (reply.status, reply.body_bytes, reply.done) == (503, 4, True)


def test_a_body_is_kept_where_it_is_asked_for():
    """The whole body, however it is cut, and nothing of it otherwise."""
    for keep, body in ((True, b"abcd"), (False, b"")):
        reply = ReplyReader(keep_body=keep)
        for part in (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab", b"cd"):
            reply.feed(part)

        assert (reply.body, reply.body_bytes, reply.done) == (body, 4, True)


def test_what_is_no_reply_is_refused():
    """A reply that does not say how long it is cannot be checked."""
    with pytest.raises(ValueError, match="without a length"):
        ReplyReader().feed(b"HTTP/1.1 200 OK\r\n\r\nbody")
