"""Prompts have their length, differ, and need no escaping."""

import json

from loadtest.replay import prompt


def test_prompts_have_the_words_asked_for_and_differ():
    """Any length up to the longest, the same again for the same index, another for the next."""
    corpus = prompt.build_corpus(300)

    for count in (1, 2, 299, 300):
        prompts = [corpus.prompt(count, index) for index in range(3)]
        assert [len(text.split()) for text in prompts] == [count] * 3
        assert prompts == [corpus.prompt(count, index) for index in range(3)]
    assert len({corpus.prompt(50, index) for index in range(1000)}) == 1000
    assert len(corpus.prompt(0, 1).split()) == len(corpus.prompt(-5, 1).split()) == 1


def test_prompts_share_as_many_words_as_asked_for():
    """The first words of all, and then nothing in common; never more than the prompt."""
    corpus = prompt.build_corpus(300)
    for count, shared in ((300, 180), (40, 39), (40, 40), (40, 99), (1, 1)):
        one, two = (corpus.prompt(count, index, shared).split() for index in (0, 1))
        same = [a == b for a, b in zip(one, two, strict=True)]

        assert len(one) == count
        assert all(same[:shared])
        assert sum(same[shared:]) <= 0.1 * count
    assert corpus.prompt(300, 7, 0) == corpus.prompt(300, 7) == corpus.prompt(300, 7, -3)


def test_prompts_need_no_escaping():
    """The text can be spliced into JSON as it is."""
    text = prompt.build_corpus(5000).prompt(5000, 17)

    assert json.loads(b'"' + text + b'"') == text.decode()
    assert len(set(prompt.WORDS)) == len(prompt.WORDS) >= 200
