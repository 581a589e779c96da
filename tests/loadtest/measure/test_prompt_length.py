"""Prompts of a wanted number of tokens, for a tokenizer that is not known."""

from random import Random

import pytest

from loadtest.measure.prompt_length import LONG_PROBE, SHORT_PROBE, PromptLength, random_text


@pytest.mark.parametrize(("start", "per_word"), [(0, 1.0), (11, 1.37), (1, 2.5)])
def test_two_answers_tell_the_length_of_all_prompts(start: int, per_word: float):
    """The line through what was counted for a short and a long prompt hits any size."""
    length = PromptLength()
    for words in (SHORT_PROBE, LONG_PROBE):
        length.learn(words, round(start + per_word * words))

    for tokens in (128, 700, 4000):
        counted = start + per_word * length.words(tokens)
        assert counted == pytest.approx(tokens, rel=0.02)


def test_a_dense_tokenizer_gets_a_shorter_second_prompt():
    """Words of five tokens: 400 of them would be more than a context of 512."""
    length = PromptLength()
    assert [length.probe(context) for context in (None, 8192, 512, 16)] == [40, 40, 8, 4]
    length.learn(8, 40)

    assert [length.probe(context) for context in (None, 8192, 512, 16)] == [400, 400, 51, 9]


def test_a_prompt_has_a_word_whatever_was_counted():
    """Nothing learned, or counts that make no sense, still give prompts that can be sent."""
    length = PromptLength()
    assert length.words(130) == 100
    length.learn(10, 50)
    length.learn(20, 40)
    assert length.words(130) == 100
    assert length.words(1) == 1


def test_no_two_prompts_begin_alike():
    """A prefix cache compares from the front: the first block of 16 tokens is never the same."""
    random = Random(7)

    starts = {tuple(random_text(50, random).split()[:8]) for _ in range(500)}

    assert len(starts) == 500
