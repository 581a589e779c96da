"""Bytes per token, learned from replies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.codec import decode, encode
from gateway.routing.estimator_schema import TokenRatioState
from gateway.routing.tokens import BytesPerToken


def test_unlearned_models_use_their_prior():
    """The configured bytes per token hold until the first reply, and an estimate is never 0."""
    tokens = BytesPerToken({"a": 4.0, "b": 2.0})

    assert [tokens.estimate(m, "chat", 100) for m in "ab"] == [25, 50]
    assert tokens.estimate("a", "chat", 0) == 1


@given(st.integers(1, 9), st.lists(st.integers(1, 5000), min_size=1, max_size=30))
def test_a_constant_ratio_is_exact(ratio, prompts):
    """Where every token has the same length, every size seen once is estimated exactly."""
    tokens = BytesPerToken({"m": 4.0})
    for count in prompts:
        tokens.learn("m", "chat", count * ratio, count)

    assert all(tokens.estimate("m", "chat", count * ratio) == count for count in prompts)


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
    """The model's ratio on that route, not the prior."""
    tokens = BytesPerToken({"m": 4.0})
    for _ in range(100):
        tokens.learn("m", "chat", 1000, 500)

    assert tokens.estimate("m", "chat", 64000) == pytest.approx(32000, rel=0.02)
    assert tokens.estimate("m", "completions", 1000) == 250


def test_replies_without_a_count_teach_nothing():
    """A backend that reports 0 prompt tokens must not break the estimate."""
    tokens = BytesPerToken({"m": 4.0})
    tokens.learn("m", "chat", 100, 0)
    tokens.learn("m", "chat", 0, 100)

    assert tokens.estimate("m", "chat", 100) == 25


def test_what_was_learned_travels():
    """A worker that starts late is sent it, and believes the same."""
    tokens = BytesPerToken({"m": 4.0, "n": 2.0})
    tokens.learn("m", "chat", 1000, 500)
    sent = BytesPerToken({"m": 4.0, "n": 2.0})
    sent.restore(decode(encode(tokens.state()), list[TokenRatioState]))

    for model in "mn":
        for size in (1000, 5000):
            assert sent.estimate(model, "chat", size) == tokens.estimate(model, "chat", size)
