"""A list in parts is the same list, and so is its answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidAnswer
from gateway.proxy.list_cut import PromptList, added, joined
from gateway.routing.endpoints import COMPLETIONS, EMBEDDINGS

PROMPTS = st.one_of(
    st.lists(st.text(), min_size=1), st.lists(st.lists(st.integers(0, 99), min_size=1), min_size=1)
)


@given(PROMPTS, st.integers(1, 7), st.dictionaries(st.text(), st.integers() | st.text()))
def test_the_parts_have_all_prompts_and_all_else(prompts, width, rest):
    """In their order, and every part has what stands beside the list."""
    rest.pop("prompt", None)
    body = json.dumps(rest | {"prompt": prompts} | {"model": "m"}).encode()
    whole = PromptList(body, COMPLETIONS)
    parts = [
        json.loads(whole.part(at, min(at + width, whole.count)))
        for at in range(0, whole.count, width)
    ]

    assert [prompt for part in parts for prompt in part.pop("prompt")] == prompts
    assert all(part == rest | {"model": "m"} for part in parts)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_an_answer_in_parts_counts_through(sizes):
    """Of embeddings: numbers go on, vectors stay to the last digit, usage is the sum."""
    vector = "[0.10000000000000000555,-1e-05]"
    answers = [
        b'{"object":"list","model":"m","data":[%b],"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
        % (
            b",".join(b'{"index":%d,"embedding":%b}' % (n, vector.encode()) for n in range(size)),
            size,
            size,
        )
        for size in sizes
    ]
    whole = joined(answers, sizes, EMBEDDINGS)
    read = json.loads(whole)

    assert [entry["index"] for entry in read["data"]] == list(range(sum(sizes)))
    assert whole.count(vector.encode()) == sum(sizes)
    assert read["usage"] == {"prompt_tokens": sum(sizes), "total_tokens": sum(sizes)}
    assert (read["object"], read["model"]) == ("list", "m")


def test_choices_count_by_what_was_asked_for():
    """Not by their place: an engine may list them as they end, and leave numbers out."""
    first = b'{"id":"a","choices":[{"index":1,"text":"b"},{"index":0,"text":"a"}]}'
    second = b'{"id":"b","choices":[{"text":"c"},{"text":"d"}],"usage":{"completion_tokens":2}}'
    read = json.loads(joined([first, second], [2, 2], COMPLETIONS))

    assert [(one["index"], one["text"]) for one in read["choices"]] == [
        (1, "b"), (0, "a"), (2, "c"), (3, "d"),
    ]  # fmt: skip
    assert (read["id"], read["usage"]) == ("a", {"completion_tokens": 2})


@pytest.mark.parametrize("second", [b"", b"[]", b"{}", b'{"data":{}}', b'{"data":[1]}'])
def test_what_is_no_list_is_no_answer(second):
    """Then the whole cannot be told."""
    with pytest.raises(InvalidAnswer):
        joined([b'{"data":[]}', second], [1, 1], EMBEDDINGS)


def test_usages_are_summed_however_deep():
    """What only one part tells stays; what is no number is the first one's."""
    one = {"a": 1, "d": {"x": 2, "y": None}, "n": None, "s": "t", "b": True}
    other = {"a": 2, "d": {"x": 3, "y": 4, "z": 5}, "n": {"q": 1}, "s": "u", "b": True}

    assert added(one, other) == {
        "a": 3, "d": {"x": 5, "y": 4, "z": 5}, "n": {"q": 1}, "s": "t", "b": True,
    }  # fmt: skip
