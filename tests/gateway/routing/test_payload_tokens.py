"""Tokens of pictures and other things that are no text."""

import pytest

from gateway.cluster.codec import decode, encode
from gateway.routing.estimator_schema import PayloadState
from gateway.routing.payload_tokens import LEAST, MOST, PayloadTokens


def test_every_kind_has_a_first_value():
    """Also one that is not known."""
    payload = PayloadTokens()

    assert payload.estimate("m", [("image", 2), ("hologram", 1)]) == 2500
    assert payload.estimate("m", ()) == 0


def test_what_a_kind_counts_is_learned_by_model():
    """From what engines report beyond the text."""
    payload = PayloadTokens()
    for _ in range(100):
        payload.learn("m", [("image", 2)], text=100, tokens=100 + 2 * 300)

    assert payload.estimate("m", [("image", 1)]) == pytest.approx(300, rel=0.05)
    assert payload.estimate("n", [("image", 1)]) == 1000


def test_what_stands_in_a_long_text_teaches_little():
    """There the rest is mostly the error of the text's estimate."""
    payload = PayloadTokens()
    payload.learn("m", [("image", 1)], text=100_000, tokens=90_000)

    assert payload.estimate("m", [("image", 1)]) == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize(("tokens", "bound"), [(1, LEAST), (10**9, MOST)])
def test_what_a_kind_may_count_is_bounded(tokens, bound):
    """Whatever replies say."""
    payload = PayloadTokens()
    for _ in range(300):
        payload.learn("m", [("image", 1)], text=0, tokens=tokens)

    assert payload.estimate("m", [("image", 1)]) == bound


def test_what_was_learned_travels():
    """To a worker that starts late."""
    payload, sent = PayloadTokens(), PayloadTokens()
    payload.learn("m", [("image", 1), ("audio", 2)], text=5, tokens=900)
    sent.restore(decode(encode(payload.state()), list[PayloadState]))

    assert sent.figures() == payload.figures()
