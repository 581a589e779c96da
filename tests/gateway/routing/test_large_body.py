"""Large bodies mean the same read step by step as at once, and no step is long."""

import json
from base64 import b64encode
from random import Random
from typing import Any

import pytest

from gateway.errors import BadRequest
from gateway.routing.abridgement import KEPT, LONG, abridged
from gateway.routing.body import read_body
from gateway.routing.elements import PART_BYTES, Elements
from gateway.routing.endpoints import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES
from gateway.routing.large_body import FEW, HUGE, STEP, LargeBody, read_large

TEXTS = ("a", "", "hello, {world}", 'say "yes", or', "zwei\nZeilen", "中文", "\\", "],", "\ud800")
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300}}


def text(random):
    return "".join(random.choices(TEXTS, k=random.randrange(4)))


def part(random):
    kind = random.randrange(8)
    if kind == 0:
        return PICTURE
    if kind == 1:
        return {"type": "input_audio", "input_audio": {"data": "A" * 300}}
    if kind == 2:
        return text(random)
    if kind == 3:
        return {
            "type": "tool_result",
            "content": [part(random) for _ in range(random.randrange(3))],
        }
    return {"type": "text", "text": text(random)}


def message(random, number):
    kind = random.randrange(6)
    if kind == 0:
        return {"role": "user", "content": [part(random) for _ in range(number)]}
    if kind == 1:
        call = {"id": "c", "function": {"name": "f", "arguments": '{"a": "ü"}'}}
        return {"role": "assistant", "content": None, "tool_calls": [call] * random.randrange(3)}
    if kind == 2:
        return {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    return {"role": "user", "content": text(random), "name": "n"}


def body(random):
    """An endpoint, and a body for it that has long lists."""
    fields: dict[str, Any] = {"model": "m", "max_tokens": 7}
    kind = random.randrange(6)
    many = random.randrange(600, 4000)
    if kind == 0:
        fields["messages"] = [message(random, 3) for _ in range(many)]
        endpoint = random.choice((CHAT, MESSAGES))
    elif kind == 1:
        fields["messages"] = [message(random, many) for _ in range(3)]
        fields["messages"] += [{"role": "user", "content": [part(random)] * many}]
        endpoint = random.choice((CHAT, MESSAGES))
    elif kind == 2:
        fields["prompt"] = [text(random) or "x" for _ in range(8 * many)]
        endpoint = COMPLETIONS
    elif kind == 3:
        fields["input"] = [{"type": "message", "content": [part(random)]} for _ in range(many)]
        endpoint = RESPONSES
    elif kind == 4:
        fields |= {"query": "q", "documents": [text(random) for _ in range(8 * many)]}
        endpoint = RERANK
    else:
        key = random.choice(("input", "messages"))
        fields[key] = [text(random) or "x" for _ in range(8 * many)]
        endpoint = EMBEDDINGS
    if random.random() < 0.3:  # one element of another shape than the others
        listed = next(value for value in fields.values() if isinstance(value, list))
        listed.insert(random.randrange(len(listed)), random.choice((7, None, "text", [["a"]], {})))
    if random.random() < 0.3:
        fields["tools"] = [
            {"type": "function", "function": {"name": "f", "description": "é"}}
        ] * many
    separators = random.choice((None, (",", ":"), (" ,\n", " : ")))
    escaped = random.random() < 0.5
    whole = json.dumps(fields, separators=separators, ensure_ascii=escaped)
    return endpoint, whole.encode("utf-8", "replace" if not escaped else "strict")


def steps(reading):
    number = 1
    while reading.step():
        number += 1
    return number


@pytest.mark.parametrize("seed", range(60))
def test_what_is_read_is_the_same(seed):
    """Of every shape, also where lists are cut at places that look like the end of an element."""
    endpoint, whole = body(Random(seed))
    try:
        expected = read_body(whole, endpoint)
    except BadRequest:  # half of a pair of surrogates before another escape
        with pytest.raises(BadRequest):
            LargeBody(whole, endpoint)
        return
    reading = LargeBody(whole, endpoint)
    steps(reading)

    assert repr(reading.request()) == repr(expected)


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "a"}] * 30_000}),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 30_000}]},
        ),
        (COMPLETIONS, {"prompt": ["abcd"] * 100_000}),
        (RERANK, {"documents": ['"a\\"'] * 100_000}),
        (CHAT, {"messages": [{"role": "user", "content": [1] * 100_000}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"a": {"b": [["x"] * 30_000]}}]}]}),
    ],
)
def test_no_step_reads_much(endpoint, fields):
    """Wherever the long list is, and however short its elements are."""
    whole = json.dumps(fields).encode()
    reading = read_large(whole, endpoint)
    assert isinstance(reading, LargeBody)
    lengths = []
    more = True
    while more:
        more = reading.step()
        lengths.append(len(reading._rest))

    assert len(lengths) >= 30_000 // STEP or "[1, 1" in str(fields)
    assert max(lengths) <= PART_BYTES  # one element for each byte or two
    assert repr(reading.request()) == repr(read_body(whole, endpoint))


def test_a_long_text_is_read_at_once():
    """There is nothing in it that could be read step by step."""
    whole = json.dumps(
        {"messages": [{"role": "user", "content": "one word and another, " * 10_000}]}
    ).encode()

    assert repr(read_large(whole, CHAT)) == repr(read_body(whole, CHAT))


def test_a_list_of_numbers_weighs_what_they_do():
    """Also where nobody expects one."""
    for numbers in ([1, 22, 333], [], [True, None, -1.5]):
        for content in (json.dumps(numbers), json.dumps(numbers, separators=(",", ":"))):
            read = read_body(
                b'{"messages":[{"role":"user","content":%b}]}' % content.encode(), CHAT
            )
            assert read.prompt_bytes == sum(len(json.dumps(n)) for n in numbers if n is not None)


@pytest.mark.parametrize("raw", [b"[]", b"[ ]", b'["a"]', b'[ {"a" : "},"} , 1]', b"[[1],[2]]"])
def test_short_lists_are_taken_apart_at_once(raw):
    elements = Elements(raw)
    found = elements.more()

    assert [json.loads(bytes(item)) for item in found] == json.loads(raw)
    assert (elements.count, elements.more(), elements.uncounted) == (len(json.loads(raw)), [], 0)


def test_too_much_is_no_list():
    """It counts as text, as in a body that is read at once."""
    raw = b"[" + b'"",' * 600_000 + b'""]'
    elements = Elements(raw)

    assert (elements.more(), elements.uncounted) == ([], len(raw))


def test_errors_come_at_once():
    """And no later."""
    whole = b'{"model":5,"messages":[%b]}' % (b'{"content":"a"},' * 2 * FEW)
    for broken in (whole, whole[:-3]):
        with pytest.raises(BadRequest):
            read_large(broken, CHAT)


def data(size, random):
    return b64encode(random.randbytes(size)).decode()


def test_payloads_are_cut_out_of_huge_bodies():
    """A picture of megabytes weighs what a small one does, in every engine's way to write it."""
    random = Random(1)
    long = data(HUGE, random)
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{long}"}},
        {"type": "input_audio", "input_audio": {"data": long, "format": "wav"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": long}},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{long}"}},
        {"image_url": f"data:image/png;base64,{long}"},
        {"type": "text", "text": f"data:text/plain,{long}"},
        {"type": "text", "text": json.dumps({"data": long})},
    ]
    whole = json.dumps({"model": "m", "messages": [{"role": "user", "content": parts}]})
    for written in (whole, whole.replace("/", "\\/"), whole.replace("+", "\\u002B")):
        cut = abridged(written.encode())
        assert len(cut) < 2.5 * len(long)
        assert len(json.loads(cut)["messages"][0]["content"]) == len(parts)
        assert repr(read_body(cut, CHAT)) == repr(read_body(written.encode(), CHAT))
        assert repr(read_large(written.encode(), CHAT)) == repr(read_body(written.encode(), CHAT))


@pytest.mark.parametrize("seed", range(30))
def test_what_is_cut_stays_json(seed):
    """Whatever stands where it is cut."""
    random = Random(seed)
    signs = ["A", "\\/", "\\u002B", "\\n", "=", "é"]
    value = "".join(random.choices(signs, k=LONG + KEPT))
    key = random.choice(("data", "url", "text"))
    start = random.choice(("", "data:image/png;base64,"))
    written = '{"a": "\\"data\\": \\"b", "x": {"%s" : "%s%s"}, "data": [1], "b": "data"}'
    whole = (written % (key, start, value)).encode()
    cut = abridged(whole)
    before, after = json.loads(whole), json.loads(cut)

    assert before["x"][key].startswith(after["x"][key])
    assert (len(after["x"][key]) < KEPT + 50) is (key == "data" or (key == "url" and bool(start)))
    before["x"] = after["x"] = None
    assert before == after


def test_what_does_not_end_is_left_as_it_is():
    """The body is no JSON, which its reader says."""
    for whole in (b'{"data": "' + b"A" * 2 * LONG, b'{"data', b'{"data": "' + b"A" * LONG + b'\\"'):
        assert abridged(whole) == whole
