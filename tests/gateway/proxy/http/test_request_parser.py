"""However the bytes of a client are cut into reads, the same requests come out."""

from random import Random

import pytest

from gateway.errors import TooLarge
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.incoming import PIECES
from gateway.proxy.http.phase import Phase
from gateway.proxy.http.request import ClientLimits
from gateway.proxy.http.request_parser import DIRECT_BYTES, EARLY_BYTES, RequestParser

LIMIT = 8 * DIRECT_BYTES


def parser(limit=LIMIT, streamed=()):
    limits = ClientLimits(body_bytes=limit, streamed=frozenset(streamed))
    return RequestParser(limits, BodyBudget(), lambda: None)


def framed(body, *lines):
    head = [b"POST /v1/a HTTP/1.1", b"host: a", b"content-length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def told(requests):
    return [
        (r.method, r.target, r.body, b"%d%d" % (r.keep_alive, r.http11), r.fields.get(b"x", b""))
        for r in requests.requests
    ]


def bodies(random, number):
    sizes = (0, 1, 700, DIRECT_BYTES - 1, DIRECT_BYTES, DIRECT_BYTES + 1, 3 * DIRECT_BYTES)
    return [random.randbytes(random.choice(sizes)) for _ in range(number)]


@pytest.mark.parametrize("seed", range(40))
def test_any_cut_into_reads_gives_the_same_requests(seed):
    """With heads that repeat and others, and bodies that are read with and without llhttp."""
    random = Random(seed)
    lines = random.choice([(), (b"x: 1",), (b"upgrade: h2c", b"connection: upgrade")])
    sent = [framed(body, *lines) for body in bodies(random, 6)]
    if random.random() < 0.3:
        sent.append(
            b"".join(
                [
                    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
                    b"5\r\nhello\r\n0\r\n\r\n",
                ]
            )
        )
    sent.append(framed(b"last", b"connection: close"))
    expected, cut = parser(), parser()
    for message in sent:
        one = parser()
        for at in range(0, len(message), 1000):
            one.feed(message[at : at + 1000])
        expected.requests.extend(one.requests)
    data = b"".join(sent)
    at = 0
    found = []
    while at < len(data):
        size = random.choice((1, 5, 60, 900, DIRECT_BYTES, 5 * DIRECT_BYTES))
        cut.feed(data[at : at + size])
        at += size
        found += told(cut)
        for request in cut.requests:
            cut._hold(-len(request.body))
        cut.requests.clear()

    assert found == told(expected)
    assert cut.phase is Phase.IDLE
    assert (cut.held_bytes, cut._budget.used) == (0, 0)


def test_blanks_around_a_value_are_none_of_it():
    """RFC 9110 §5.5: what is compared with names must not have them."""
    one = parser()
    one.feed(framed(b"", b"x:  gold \t ", b"y:   "))
    (request,) = one.requests

    assert request.fields[b"x"] == b"gold"
    assert request.fields[b"y"] == b""
    assert (b"x", b"gold") in request.headers


def test_a_large_body_is_counted_while_it_comes():
    """Only what has come: what a client merely announces takes no memory."""
    requests = parser()
    whole = framed(bytes(4 * DIRECT_BYTES))
    for _ in range(3):  # the second time the head is known
        start = whole.index(b"\r\n\r\n") + 4
        requests.feed(whole[: start + 10])
        assert (requests.held_bytes, requests.part_bytes, requests.phase) == (10, 10, Phase.BODY)
        assert requests._begun is not None
        requests.feed(whole[start + 10 : -1])
        assert requests.part_bytes == 4 * DIRECT_BYTES - 1
        requests.feed(whole[-1:])
        assert requests.phase is Phase.IDLE
        requests._hold(-len(requests.requests.popleft().body))
    assert requests._memo.known is not None
    requests.feed(whole[:-1])
    requests.clear()

    assert requests._budget.used == 0
    assert requests._begun is None


def test_a_known_head_with_a_length_beyond_the_limit_is_refused():
    """Also where its number has changed only."""
    requests = parser()
    requests.feed(framed(bytes(2 * DIRECT_BYTES)))
    requests.requests.clear()
    with pytest.raises(TooLarge):
        requests.feed(framed(bytes(LIMIT + 1))[:200])


def test_a_body_in_tiny_pieces_takes_no_list_of_them():
    """Each piece alone would take forty times its size."""
    requests = parser()
    whole = framed(bytes(range(256)) * 2 * (DIRECT_BYTES // 256))
    start = whole.index(b"\r\n\r\n") + 4
    requests.feed(whole[:start])
    for at in range(start, len(whole)):
        requests.feed(whole[at : at + 1])
        assert len(requests._body._pieces) <= PIECES + 1

    assert requests.requests[0].body == whole[start:]


@pytest.mark.parametrize("seed", range(20))
def test_a_streamed_body_is_whole_however_it_is_cut(seed):
    """Its beginning with the request, its rest in the upload, and the next request after it."""
    random = Random(seed)
    body = random.randbytes(7 * DIRECT_BYTES)
    data = framed(body) + framed(b"next")
    requests = parser(streamed=[b"/v1/a"])
    taken: list[bytes] = []
    at, found = 0, None
    while at < len(data):
        size = random.choice((900, DIRECT_BYTES, 3 * DIRECT_BYTES))
        requests.feed(data[at : at + size])
        at += size
        if requests.requests and found is None:
            found = requests.requests.popleft()
            requests._hold(-len(found.body))
            if found.upload is not None:
                assert len(found.body) >= EARLY_BYTES
                assert found.uploading
                found.upload.pass_to(taken.append)

    assert found is not None
    assert found.body + b"".join(taken) == body
    assert not found.uploading
    assert [request.body for request in requests.requests] == [b"next"]
    requests.clear()
    assert requests._budget.used == 0
