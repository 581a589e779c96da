"""Tokens of a text, learned from replies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.codec import decode, encode
from gateway.routing.estimator_schema import TokenFitState
from gateway.routing.tokens import LINES, BytesPerToken

# Bytes per token, and whether the script is another than Latin, of what callers write.
CONTENT = {
    "english": (4.4, False), "code": (3.2, False), "json": (2.6, False), "chinese": (1.0, True),
}  # fmt: skip
TEMPLATE = 5.5  # tokens that a message takes beside its text


def conversation(rng, content):
    """A prompt of such content: its bytes, its messages, and its tokens."""
    ratio, wide = CONTENT[content]
    units = int(rng.integers(2, 30))
    text = 20 * units + int(rng.lognormal(7.0, 1.0))
    tokens = max(1, round(text / (ratio * rng.lognormal(0.0, 0.1)) + TEMPLATE * units))
    return text, {"units": units, "wide": wide, "caller": content}, tokens


def test_unlearned_models_use_their_prior():
    """The configured bytes per token hold until the first reply, and an estimate is never 0."""
    tokens = BytesPerToken({"a": 4.0, "b": 2.0})

    assert [tokens.estimate(m, "chat", 100) for m in "ab"] == [25, 50]
    assert tokens.estimate("a", "chat", 0) == 1


@pytest.mark.parametrize("callers", [True, False])
def test_every_caller_is_estimated_by_what_it_writes(callers):
    """Four kinds of content on one route: after 300 requests each is within a tenth. Where they
    share one key, at least the scripts are told apart."""
    rng = np.random.default_rng(5)
    tokens = BytesPerToken({"m": 4.0})
    for _ in range(300):
        text, kind, actual = conversation(rng, rng.choice(list(CONTENT)))
        tokens.learn("m", "chat", text, actual, **kind | ({} if callers else {"caller": ""}))

    for content in CONTENT if callers else ("chinese",):
        found, true = 0, 0
        for _ in range(200):
            text, kind, actual = conversation(rng, content)
            found += tokens.estimate(
                "m", "chat", text, **kind | ({} if callers else {"caller": ""})
            )
            true += actual
        assert found == pytest.approx(true, rel=0.1), content


@pytest.mark.parametrize("known", [True, False])
def test_many_short_messages_are_estimated_as_well_as_one_long_one(known):
    """What the template adds for each message is learned, and not mistaken for text; for callers
    that never came before, too."""
    rng = np.random.default_rng(3)
    tokens = BytesPerToken({"m": 4.0})
    shapes = [(1800, 31), (1900, 2), (9000, 2), (30, 2)]
    for _ in range(75):
        for text, units in shapes:
            actual = round(text / (3.7 * rng.lognormal(0.0, 0.05)) + 7 * units)
            tokens.learn("m", "chat", text, actual, caller="k", units=units)

    for text, units in [*shapes, (600, 11), (4000, 61)]:
        found = tokens.estimate("m", "chat", text, caller="k" if known else "new", units=units)
        assert found == pytest.approx(text / 3.7 + 7 * units, rel=0.1)


@given(st.integers(1, 9), st.lists(st.integers(100, 5000), min_size=1, max_size=30))
def test_a_constant_ratio_comes_nearer_and_is_never_passed(ratio, prompts):
    """Where every token has the same length, each reply takes the estimate towards it."""
    tokens = BytesPerToken({"m": 4.0})
    for count in prompts:
        before = tokens.estimate("m", "chat", count * ratio)
        tokens.learn("m", "chat", count * ratio, count)
        after = tokens.estimate("m", "chat", count * ratio)
        assert min(before, count) - 1 <= after <= max(before, count) + 1


@pytest.mark.parametrize(("size", "ratio"), [(200, 2.5), (2000, 3.6), (20000, 5.1)])
def test_every_size_converges_to_its_own_ratio(size, ratio):
    """Sixty noisy replies bring each prompt size within a tenth, whatever the other sizes do."""
    rng = np.random.default_rng(3)
    tokens = BytesPerToken({"m": 4.0})
    for _ in range(60):
        for s, r in ((200, 2.5), (2000, 3.6), (20000, 5.1)):
            tokens.learn("m", "chat", s, max(1, round(s / (r * rng.uniform(0.8, 1.25)))))

    assert tokens.estimate("m", "chat", size) == pytest.approx(size / ratio, rel=0.1)


def test_a_size_never_seen_uses_what_the_others_taught():
    """The caller's line, not the prior; and for a new caller that of the route."""
    tokens = BytesPerToken({"m": 4.0})
    for _ in range(100):
        tokens.learn("m", "chat", 1000, 500)

    for caller in ("", "new"):
        found = tokens.estimate("m", "chat", 64000, caller=caller)
        assert found == pytest.approx(32000, rel=0.05)
    assert tokens.estimate("m", "completions", 1000) == 250


@pytest.mark.parametrize("wrong", [1, 50, 10**7])
def test_one_wrong_reply_does_little(wrong):
    """However wrong it is, and however many tokens it claims."""
    tokens = BytesPerToken({"m": 4.0})
    for _ in range(100):
        tokens.learn("m", "chat", 4000, 1000, caller="k")
    tokens.learn("m", "chat", 4000, wrong, caller="k")

    assert tokens.estimate("m", "chat", 4000, caller="k") == pytest.approx(1000, rel=0.05)


def test_no_ratio_is_believed_that_no_text_has():
    """Between half a byte and twelve bytes for a token, whatever replies say."""
    tokens = BytesPerToken({"m": 4.0})
    for _ in range(400):
        tokens.learn("m", "chat", 4000, 1, caller="few")
        tokens.learn("m", "chat", 4000, 10**6, caller="many")

    assert tokens.estimate("m", "chat", 4000, caller="few") == round(4000 / 12)
    assert tokens.estimate("m", "chat", 4000, caller="many") == pytest.approx(8000, rel=0.01)


def test_a_caller_cannot_move_another():
    """Its own line is its own; a new caller starts where all together are."""
    tokens = BytesPerToken({"m": 4.0})
    for _ in range(100):
        tokens.learn("m", "chat", 4000, 1000, caller="a")
    for _ in range(1000):
        tokens.learn("m", "chat", 4000, 4000, caller="b")

    assert tokens.estimate("m", "chat", 4000, caller="a") == pytest.approx(1000, rel=0.02)


def test_replies_without_a_count_teach_nothing():
    """A backend that reports 0 prompt tokens must not break the estimate."""
    tokens = BytesPerToken({"m": 4.0})
    tokens.learn("m", "chat", 100, 0)
    tokens.learn("m", "chat", 0, 100)

    assert tokens.estimate("m", "chat", 100) == 25


def test_memory_is_bounded():
    """Of very many callers, those that taught something last are remembered."""
    tokens = BytesPerToken({"m": 4.0})
    for n in range(LINES + 100):
        tokens.learn("m", "chat", 1000, 500, caller=str(n))

    assert len(tokens.state()) == 1 + 2 * LINES


def test_what_was_learned_travels():
    """A worker that starts late is sent it, believes the same, and goes on in the same way."""
    tokens = BytesPerToken({"m": 4.0, "n": 2.0})
    tokens.learn("m", "chat", 1000, 500, caller="k")
    sent = BytesPerToken({"m": 4.0, "n": 2.0})
    sent.restore(decode(encode(tokens.state()), list[TokenFitState]))
    for _ in range(2):
        for model in "mn":
            for size in (1000, 5000):
                for caller in ("k", "new"):
                    assert sent.estimate(model, "chat", size, caller=caller) == tokens.estimate(
                        model, "chat", size, caller=caller
                    )
        for one in (tokens, sent):
            one.learn("m", "chat", 3000, 1300, caller="k")

    assert sent.state() == tokens.state()
