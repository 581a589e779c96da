"""How a suspicious client reads an answer."""

from random import Random

import pytest

from loadtest.soak.answer import read_answer
from loadtest.soak.ledger import Ending
from loadtest.soak.reply import script
from loadtest.soak.traffic import EMBEDDINGS, PATHS, Question, body, piece


def answered(ask: Question) -> bytes:
    """The body that an engine gives to this request, without its chunks' frames."""
    written = b"".join(script(ask.path, ask.number, body(ask), None, Random(0)).parts)
    content = written.partition(b"\r\n\r\n")[2]
    lines = content.split(b"\r\n")
    return b"".join(lines[1::2]) if ask.stream else content


def read(ask: Question, content: bytes, status: int = 200, request_id: bytes = b"7") -> Ending:
    return read_answer(ask, status, request_id, content)[0]


@pytest.mark.parametrize("path", PATHS)
def test_its_own_whole_answer_is_served(path: str):
    """Streamed or not."""
    count = 1 if path == EMBEDDINGS else 5
    ask = Question(number=7, path=path, pieces=count)

    assert read(ask, answered(ask)) is Ending.SERVED
    if path != EMBEDDINGS:
        streamed = Question(number=7, path=path, pieces=count, stream=True, padding=10)
        assert read(streamed, answered(streamed)) is Ending.SERVED


@pytest.mark.parametrize("path", PATHS)
def test_another_answer_is_mixed_up(path: str):
    """Another's body, or another's request id, however good the rest is."""
    own, other = Question(number=7, path=path), Question(number=8, path=path)

    assert read(own, answered(other)) is Ending.MIXED
    assert read(own, answered(own), request_id=b"8") is Ending.MIXED


@pytest.mark.parametrize("pieces", [(0, 2), (0, 1, 1, 2), (1, 0, 2), (0, 1, 2, 3)])
def test_missing_doubled_and_swapped_pieces_are_seen(pieces: tuple[int, ...]):
    """An answer that looks whole is compared piece by piece."""
    ask = Question(number=7, pieces=3)

    assert read(ask, "".join(piece(7, n) for n in pieces).encode()) is Ending.MIXED


def test_a_stream_with_an_error_event_is_broken():
    """What came before it must be the beginning of the answer."""
    ask = Question(number=7, pieces=3, stream=True)
    error = b'data: {"error":{"message":"gone"}}\n\n'

    assert read(ask, f"data: {piece(7, 0)}\n\n".encode() + error) is Ending.BROKEN
    assert read(ask, f"data: {piece(7, 1)}\n\n".encode() + error) is Ending.MIXED


def test_a_stream_that_ends_cleanly_without_its_end_is_lost():
    """Clients would take it for the whole answer."""
    ask = Question(number=7, pieces=3, stream=True)

    assert read(ask, f"data: {piece(7, 0)}\n\n".encode()) is Ending.LOST


@pytest.mark.parametrize("path", PATHS)
def test_a_200_without_an_answer_is_lost(path: str):
    """An empty object or a page of HTML serves nobody."""
    ask = Question(number=7, path=path)

    assert read(ask, b"{}") is read(ask, b"<html></html>") is Ending.LOST


def test_an_error_needs_an_error_object():
    """A status alone tells a client nothing."""
    ask = Question(number=7)

    assert read(ask, b'{"error":{}}', status=503) is Ending.REFUSED
    assert read(ask, b"busy", status=503) is Ending.LOST


def test_a_mistake_must_not_be_served():
    """A request that is wrong and gets an answer got somebody else's."""
    ask = Question(number=7, mistake="model")

    assert read(ask, answered(Question(number=7))) is Ending.MIXED
