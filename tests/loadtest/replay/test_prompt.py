import json

from loadtest.replay import prompt


def test_prompts_have_the_words_asked_for_and_differ():
    """Any length up to the longest, the same again for the same index, another for the next."""
    text = prompt.build(300)

    for count in (1, 2, 299, 300):
        cuts = [text.cut(count, index) for index in range(3)]
        assert [len(cut.split()) for cut in cuts] == [count] * 3
        assert cuts == [text.cut(count, index) for index in range(3)]
    assert len({text.cut(50, index) for index in range(1000)}) == 1000
    assert len(text.cut(0, 1).split()) == len(text.cut(-5, 1).split()) == 1


def test_prompts_need_no_escaping():
    """The text can be spliced into JSON as it is."""
    cut = prompt.build(5000).cut(5000, 17)

    assert json.loads(b'"' + cut + b'"') == cut.decode()
    assert len(set(prompt.WORDS)) == len(prompt.WORDS) >= 200
