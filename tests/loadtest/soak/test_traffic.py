"""The requests of a soak."""

from itertools import chain

import msgspec
import pytest

from loadtest.soak.traffic import CHAT, EMBEDDINGS, MISTAKES, PATHS, Question, body, message, visits


def test_the_same_seed_gives_the_same_traffic():
    """A run can be made again."""
    assert list(visits(3, 500)) == list(visits(3, 500))
    assert list(visits(3, 500)) != list(visits(4, 500))


def test_every_request_has_a_number_of_its_own():
    """As many as are asked for, from 1, also where several go in one write."""
    asks = list(chain.from_iterable(visit.asks for visit in visits(1, 3000)))

    assert [ask.number for ask in asks] == list(range(1, 3001))


def test_the_traffic_is_mixed():
    """All endpoints, classes, mistakes and ways to behave come in a few thousand requests."""
    drawn = list(visits(1, 5000))
    asks = list(chain.from_iterable(visit.asks for visit in drawn))

    assert {ask.path for ask in asks} == set(PATHS)
    assert {ask.slo_class for ask in asks} >= {"default", "interactive", "batch", "best-effort"}
    assert {ask.mistake for ask in asks} == {"", *MISTAKES}
    assert {ask.stream for ask in asks} == {True, False}
    assert {visit.keep for visit in drawn} == {visit.slow for visit in drawn} == {True, False}
    assert any(visit.leave_s is not None and visit.sent < 1.0 for visit in drawn)
    assert any(len(visit.asks) > 1 for visit in drawn)


@pytest.mark.parametrize("path", PATHS)
def test_a_body_has_its_token_at_both_ends_of_the_prompt(path: str):
    """An engine sees so that a body is whole and nobody else's."""
    content = body(Question(number=42, path=path, prompt=200, filler=1000))

    assert content.count(b"id=42;") == 2
    assert len(msgspec.json.decode(content)["filler"]) == 1000


def test_an_embedding_has_no_parameters_of_a_generation():
    """Engines refuse `stream` there."""
    assert "stream" not in msgspec.json.decode(body(Question(number=1, path=EMBEDDINGS)))


def test_a_message_says_who_sends_it_and_in_which_class():
    """The number as request id, the caller's key, and no class header for the default class."""
    named = message(Question(number=7, path=CHAT, caller=3, slo_class="batch"))

    assert b"x-request-id: 7\r\n" in named
    assert b"authorization: Bearer caller-3\r\n" in named
    assert b"x-cuvee-slo-class: batch\r\n" in named
    assert b"x-cuvee-slo-class" not in message(Question(number=7))
