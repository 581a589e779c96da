"""The few fields of a body that routing reads."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.routing import body as read
from gateway.routing.body import read_body, with_usage
from gateway.routing.body_schema import CommonFields, Message
from gateway.routing.endpoints import CHAT, COMPLETIONS, ENDPOINTS, RESPONSES


def llm_request(endpoint="chat", **fields):
    return read_body(json.dumps(fields).encode(), ENDPOINTS[endpoint])


def test_a_chat_request():
    """Model, stream, cap and usage are read; the prompt is what the messages say."""
    body = b'{"messages": [ {"role":"user","content":"h\\u00e9 \xc3\xa9"} ], "model":"m",'
    body += b'"stream":true,"max_tokens":7,"stream_options":{"include_usage":true,"x":1}}'
    found = read_body(body, CHAT)

    assert (found.model, found.stream, found.max_tokens, found.asks_usage) == ("m", True, 7, True)
    assert (found.prompt_bytes, found.units) == (len("hé é".encode()), 2)
    assert found.prompt_tokens is None


def test_unknown_fields_are_skipped():
    """Engines have extensions without end; none of them is our business."""
    found = llm_request(
        model="m", vllm_xargs={"a": [1, {"b": None}]}, response_format={}, logit_bias={"5": -1}
    )

    assert repr(found) == repr(llm_request(model="m"))


def test_null_is_absent():
    """Clients send null for what they do not set."""
    found = llm_request(
        model=None, stream=None, max_tokens=None, max_completion_tokens=None, stream_options=None
    )

    assert repr(found) == repr(llm_request())
    assert (found.model, found.stream, found.max_tokens, found.asks_usage) == (
        None,
        False,
        None,
        False,
    )


@pytest.mark.parametrize(
    ("endpoint", "fields", "one"),
    [
        ("chat", {}, True),
        ("chat", {"n": 1}, True),
        ("chat", {"n": None}, True),
        ("chat", {"n": 2}, False),
        ("chat", {"n": "2"}, False),
        ("chat", {"messages": [{}, {}]}, True),
        ("completions", {"prompt": "one"}, True),
        ("completions", {"prompt": ["one", "two"]}, False),
        ("completions", {"prompt": ["one"]}, True),
        ("completions", {"prompt": [1, 2]}, True),
        ("completions", {"prompt": [[1], [2]]}, False),
        ("completions", {"best_of": 2}, False),
    ],
)
def test_who_asks_for_one_choice(endpoint, fields, one):
    """By `n`, and by the number of prompts."""
    assert llm_request(endpoint, **fields).one_choice is one


TEXT = "plain text of a prompt, " * 20
IMAGE = "data:image/png;base64," + "iVBORw0KGgo" * 4000


def text_of(**fields):
    return llm_request(**fields).prompt_bytes


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        [{"type": "text", "text": TEXT}],
        [TEXT],
        [{"type": "text", "text": TEXT[:99]}, {"type": "input_text", "text": TEXT[99:]}],
        [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": TEXT}]}],
        [{"type": "document", "source": {"type": "text", "data": TEXT}}],
    ],
)
def test_text_is_the_same_however_it_is_put(content):
    """A string, parts, and results of tools: what the model reads is what counts."""
    found = llm_request(messages=[{"role": "user", "content": content}])

    assert found.prompt_bytes == pytest.approx(len(TEXT), abs=12)
    assert found.payload == ()


@pytest.mark.parametrize(
    "text", ['line\n"quoted" \\ line\t', "机器学习是人工智能的一个分支", "🎉 ça"]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_an_escape_counts_as_what_it_stands_for(text, ascii_only):
    """Clients that escape and clients that do not send the same prompt."""
    body = {"messages": [{"role": "user", "content": text * 9}], "prompt": [text * 9]}
    raw = json.dumps(body, ensure_ascii=ascii_only).encode()

    for endpoint in (CHAT, COMPLETIONS):
        assert read_body(raw, endpoint).prompt_bytes == len((text * 9).encode())


@pytest.mark.parametrize(
    ("text", "wide"),
    [("word ", False), ("café naïve ", False), ("机器学习", True), ("слово", True)],
)
def test_other_scripts_than_latin_are_told_apart(text, wide):
    """A token has other lengths there."""
    assert llm_request(messages=[{"role": "user", "content": text * 20}]).wide is wide


@pytest.mark.parametrize(
    "beside",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "description": TEXT}}]},
        {"functions": [{"name": "f", "description": TEXT}]},
        {"documents": [{"title": "t", "text": TEXT}]},
        {"system": [{"type": "text", "text": TEXT}]},
    ],
)
def test_what_stands_beside_the_messages_is_prompt_too(beside):
    """Tools and documents are written into the prompt by the template."""
    alone = text_of(messages=[{"role": "user", "content": "hi"}])
    found = text_of(messages=[{"role": "user", "content": "hi"}], **beside)

    assert len(TEXT) <= found - alone <= len(json.dumps(beside))


def test_instructions_beside_an_input_are_prompt_too():
    raw = json.dumps({"input": "hi", "instructions": TEXT}).encode()
    assert read_body(raw, RESPONSES).prompt_bytes == len("hi") + len(TEXT)


def test_what_comes_after_the_answer_is_prompt_too():
    """The suffix of a completion."""
    assert llm_request("completions", prompt="ab", suffix=TEXT).prompt_bytes == len(TEXT) + 2


def test_calls_of_tools_are_prompt_too():
    """In a message without content, and in one with both."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": TEXT}}
    for message in (
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "assistant", "content": None, "function_call": call["function"]},
    ):
        assert text_of(messages=[message]) >= len(TEXT)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_what_was_thought_before_a_call_is_prompt_too(name):
    """Templates write it again until the question is answered, and leave out all other thoughts."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    without = text_of(messages=[message])

    assert text_of(messages=[message | {name: TEXT}]) == without + len(TEXT)
    assert text_of(messages=[{"role": "assistant", "content": "hi", name: TEXT}]) == 2


PARTS = [
    ({"type": "image_url", "image_url": {"url": IMAGE}}, "image"),
    ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, "image"),
    ({"type": "image_url", "image_url": IMAGE}, "image"),
    ({"image_url": {"url": IMAGE}}, "image"),
    ({"image": IMAGE}, "image"),
    ({"type": "input_image", "image_url": IMAGE}, "image"),
    ({"type": "image", "source": {"type": "base64", "data": IMAGE}}, "image"),
    ({"type": "image_embeds", "image_embeds": IMAGE}, "image"),
    ({"type": "input_audio", "input_audio": {"data": IMAGE, "format": "wav"}}, "audio"),
    ({"type": "audio_url", "audio_url": {"url": "https://example.org/a.wav"}}, "audio"),
    ({"type": "video_url", "video_url": {"url": IMAGE}}, "video"),
    ({"type": "file", "file": {"file_data": IMAGE, "filename": "a.pdf"}}, "file"),
    ({"type": "input_file", "file_id": "file-1"}, "file"),
    ({"type": "document", "source": {"type": "base64", "data": IMAGE}}, "file"),
    ({"type": "hologram", "hologram": {"data": IMAGE}}, "other"),
    ({"type": "cloud_url", "cloud_url": {"url": "https://example.org/a"}}, "other"),
    ({"type": "reasoning", "encrypted_content": IMAGE[22:]}, "other"),
    ({"type": "tool_result", "content": [{"type": "image", "source": {"data": IMAGE}}]}, "image"),
]


@pytest.mark.parametrize(("part", "kind"), PARTS)
def test_what_is_no_text_counts_by_its_kind(part, kind):
    """Its bytes, if they stand in the body at all, have nothing to do with tokens."""
    content = [{"type": "text", "text": TEXT}, part, part]
    found = llm_request(messages=[{"role": "user", "content": content}])

    assert found.payload == ((kind, 2),)
    assert len(TEXT) <= found.prompt_bytes < len(TEXT) + 40


@pytest.mark.parametrize(
    "data",
    [
        {"file": "src/main.py", "content": TEXT},
        {"image": "a cat", "content": TEXT},
        {"type": "function_call", "arguments": IMAGE},
        {"url": "https://example.org/", "note": TEXT},
        {"note": "data: " + TEXT},
    ],
)
def test_what_only_looks_like_it_is_text(data):
    """A tool may have an argument of that name, and Base64 in a text is read as text."""
    call = {"type": "tool_use", "id": "1", "name": "f", "input": data}
    found = llm_request(messages=[{"role": "assistant", "content": [call]}])

    assert found.payload == ()
    assert found.prompt_bytes >= len(TEXT)


def test_slashes_may_be_escaped():
    """As PHP does."""
    part = {"type": "hologram", "hologram": {"data": "iVBO/Rw0" * 99, "more": IMAGE}}
    body = json.dumps({"messages": [{"role": "user", "content": [part]}]}).replace("/", "\\/")

    assert read_body(body.encode(), CHAT).payload == (("other", 2),)


def test_base64_that_somebody_writes_is_text():
    """The engine turns it into tokens like every other text."""
    found = llm_request(messages=[{"role": "user", "content": IMAGE}])

    assert (found.prompt_bytes, found.payload) == (len(IMAGE), ())


@pytest.mark.parametrize(
    ("endpoint", "fields", "sequences"),
    [
        ("chat", {"n": 4}, (1, 4, 4)),
        ("chat", {"n": "4"}, (1, 4, 4)),
        ("chat", {"n": 4.0}, (1, 4, 4)),
        ("chat", {"n": 0}, (1, 1, 1)),
        ("chat", {"n": "many"}, (1, 1, 1)),
        ("chat", {"n": float("1e300")}, (1, 16384, 16384)),
        ("chat", {"n": [2]}, (1, 1, 1)),
        ("chat", {"n": True}, (1, 1, 1)),
        ("completions", {"prompt": ["a", "b", "c"]}, (3, 3, 3)),
        ("completions", {"prompt": [[1, 2], [3], [4]]}, (3, 3, 3)),
        ("completions", {"prompt": [1, 2, 3]}, (1, 1, 1)),
        ("completions", {"prompt": []}, (1, 1, 1)),
        ("completions", {"prompt": ["a", "b"], "n": 3}, (2, 6, 6)),
        ("completions", {"prompt": ["a", "b"], "n": 2, "best_of": 5}, (2, 4, 10)),
        ("embeddings", {"input": ["a", "b", "c"]}, (3, 3, 3)),
        ("embeddings", {"input": ["a"], "n": 5}, (1, 1, 1)),
        ("embeddings", {"messages": [{"role": "user", "content": "a"}] * 3}, (1, 1, 1)),
    ],
)
def test_a_request_is_as_many_sequences_as_an_engine_works_on(endpoint, fields, sequences):
    """Prompts, answers, and sequences: prompts times the larger of `n` and `best_of`."""
    found = llm_request(endpoint, **fields)

    assert (found.prompts, found.answers, found.width) == sequences


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        ("rerank", {"query": TEXT, "documents": ["a" * 40] * 3}),
        ("score", {"text_1": TEXT, "text_2": ["a" * 40] * 3}),
        ("score", {"text_1": [TEXT] * 3, "text_2": ["a" * 40] * 3}),
        ("score", {"queries": TEXT, "documents": ["a" * 40] * 3}),
        ("score", {"queries": TEXT, "items": ["a" * 40] * 3}),
        ("score", {"data_1": TEXT, "data_2": ["a" * 40] * 3}),
    ],
)
def test_each_document_is_compared_with_its_query(endpoint, fields):
    """An engine works on pairs: each is a prompt, in which the query stands once more."""
    found = llm_request(endpoint, **fields)

    assert (found.prompts, found.width, found.units) == (3, 3, 3)
    assert found.prompt_bytes == 3 * (len(TEXT) + 40)


def test_a_picture_is_compared_with_each_document():
    """As text is; and a request without documents is left to the engine."""
    picture = {"content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}
    found = llm_request("rerank", query=picture, documents=["a", picture])

    assert (found.prompts, found.payload) == (2, (("image", 3),))
    assert llm_request("rerank", query="a").prompts == 1


def test_token_ids_of_many_prompts_are_counted_together():
    """They are exact, and so are their prompts."""
    found = llm_request("completions", prompt=[[1, 2], [3], [4, 5, 6]])

    assert (found.prompt_tokens, found.prompts) == (6, 3)


@pytest.mark.parametrize(
    "messages", [5, "hi", [1], [["x"]], {"a": 1}, None, [{"content": {}}], [{}]]
)
def test_messages_of_another_shape_are_the_engines_business(messages):
    """It says better what it wants."""
    assert llm_request(model="m", messages=messages).model == "m"


def test_very_many_small_things_are_not_taken_apart():
    """Each would take a hundred bytes of memory: they count as text."""
    body = b'{"messages":[' + b"{}," * 600_000 + b"{}]}"
    listed = b'{"messages":[{"content":[' + b"1," * 600_000 + b"1]}]}"

    for raw in (body, listed):
        found = read_body(raw, CHAT)
        assert found.prompt_bytes > 700_000
        assert found.units <= 2


def test_a_table_with_a_picture_is_still_read():
    """However many commas its text has."""
    part = {"type": "image_url", "image_url": {"url": "https://example.org/" + "a" * 9}}
    numbers = ",".join(map(str, range(100_000)))
    content = [part] * 20 + [{"type": "text", "text": numbers}]
    found = llm_request(messages=[{"role": "user", "content": content}])

    assert found.payload == (("image", 20),)
    assert found.prompt_bytes == pytest.approx(len(numbers), abs=20)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "image_url", "source", "x"]), inner)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["messages", "prompt", "input", "tools", "documents", "system", "n"]))
def test_whatever_a_prompt_is_it_is_read(value, name):
    """No shape of it is an error here."""
    for endpoint, row in ENDPOINTS.items():
        if row.form:
            continue
        found = llm_request(endpoint, **{name: value})
        assert found.prompt_bytes >= 0
        assert found.width >= 1


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ([1, 2, 3], 3),
        ([[1, 2], [3]], 3),
        ([7], 1),
        ("text, with, commas", None),
        (["a,b", "c"], None),
        ([], None),
        ([[]], None),
        ([[1, 2], "a text"], None),
        ([1, "a text"], None),
        ("", None),
        (None, None),
        ("[1, 2]", None),
        (5, None),
    ],
)
@pytest.mark.parametrize("endpoint", ["completions", "embeddings"])
def test_token_ids_are_counted(endpoint, prompt, tokens):
    """Only lists of ids are exact; text in any form is estimated from its bytes."""
    field = {"completions": "prompt", "embeddings": "input"}[endpoint]

    found = llm_request(endpoint, **{field: prompt})

    assert found.prompt_tokens == tokens


@given(st.lists(st.integers(0, 200_000), min_size=1), st.sampled_from([None, 0, 2]))
def test_token_ids_are_counted_however_they_are_written(ids, indent):
    """White space in the body does not change the count."""
    body = json.dumps({"prompt": ids}, indent=indent).encode()

    assert read_body(body, COMPLETIONS).prompt_tokens == len(ids)


@pytest.mark.parametrize(
    ("fields", "cap"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 0}, None),
        ({"max_tokens": -3}, None),
        ({"max_tokens": 10**25}, 10**25),
        ({}, None),
    ],
)
def test_the_cap(fields, cap):
    """The newer name wins; what is no cap is left to the backend to refuse."""
    assert llm_request(**fields).max_tokens == cap


@pytest.mark.parametrize(
    ("endpoint", "name", "cap"),
    [
        ("chat", "max_output_tokens", None),
        ("chat", "max_new_tokens", None),
        ("completions", "max_tokens_to_sample", None),
        ("messages", "max_tokens", 7),
        ("responses", "max_output_tokens", 7),
        ("responses", "max_tokens", None),
    ],
)
def test_a_cap_that_no_engine_heeds_is_none(endpoint, name, cap):
    """Each endpoint has its own name for it; answers are as long as without any other."""
    assert llm_request(endpoint, **{name: 7}).max_tokens == cap


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model": 3}', "model"),
        (b'{"stream": "maybe"}', "stream"),
        (b'{"stream": {}}', "stream"),
        (b'{"stream": "yes", "max_tokens": []}', "max_tokens"),
        (b'{"max_tokens": "many"}', "max_tokens"),
        (b'{"max_tokens": 1.5}', "max_tokens"),
        (b'{"max_tokens": true}', "max_tokens"),
        (b'{"max_tokens": 1e999}', "max_tokens"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "max_tokens"),
        (b'{"stream_options": {"include_usage": 7}}', "stream_options.include_usage"),
        (b'{"stream_options": []}', "stream_options"),
    ],
)
def test_wrong_types_name_the_field(body, param):
    """A client learns which field was wrong."""
    with pytest.raises(BadRequest) as refused:
        read_body(body, CHAT)

    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"model": 3}', "model must be a text, not an integer"),
        (b'{"max_tokens": 1.5}', "max_tokens must be an integer, not a fraction"),
        (b'{"max_tokens": true}', "max_tokens must be an integer, not a truth value"),
        (b'{"stream": "maybe"}', "stream must be true or false, not a text"),
        (b'{"stream_options": []}', "stream_options must be an object, not a list"),
        (b'["m"]', "the body must be an object, not a list"),
    ],
)
def test_wrong_types_are_told_in_words(body, words):
    """Clients are written in many languages, whose types have other names."""
    with pytest.raises(BadRequest, match=words):
        read_body(body, CHAT)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'"x"',
        b"null",
        b'{"model": "m"',
        b'{"model": "m"} x',
        b"{'model': 'm'}",
        b'{"model": "\xff"}',
        b"\xff\xfe{}",
        b'{"messages": [NaN]}',
        b'{"messages": [{"content": "half of a smile \\ud83d"}]}',
        b'{"messages": [], "user": "x\\ud83d"}',
        b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
)
def test_what_is_no_json_object_is_a_bad_request(body):
    """Broken, binary and hostile bodies are the client's mistake, never ours."""
    with pytest.raises(BadRequest):
        read_body(body, CHAT)


@given(st.binary(max_size=60))
def test_no_body_is_an_internal_error(body):
    """Any bytes are either a request or a bad request."""
    for data in (body, b'{"model":' + body + b"}", b'{"model":"m","prompt":' + body + b"}"):
        with suppress(BadRequest):
            read_body(data, COMPLETIONS)


def test_the_last_of_duplicate_keys_counts():
    """As in Python's and the engines' own decoders."""
    found = read_body(b'{"model":"a","stream":true,"model":"b","stream":false}', CHAT)

    assert (found.model, found.stream) == ("b", False)


def test_it_is_as_lax_as_the_engines():
    """What vLLM takes for a number or a truth value is no reason to refuse a request."""
    body = b'{"max_tokens": "7", "stream": 1, "stream_options": {"include_usage": "true"}}'

    found = read_body(body, CHAT)

    assert (found.max_tokens, found.stream, found.asks_usage) == (7, True, True)
    assert read_body(b'{"max_tokens": 7.0}', CHAT).max_tokens == 7


@pytest.mark.parametrize(
    ("word", "truth"), [("yes", True), ("On", True), ("t", True), ("no", False), ("OFF", False)]
)
def test_a_truth_may_be_a_word(word, truth):
    """Pydantic, with which engines read it, takes these words for true and false."""
    message = {"role": "user", "content": TEXT}
    found = llm_request(model="m", stream=word, max_tokens=7, messages=[message])

    assert (found.stream, found.max_tokens, found.prompt_bytes) == (truth, 7, len(TEXT))


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_byte_order_mark_is_skipped(endpoint):
    """Some editors and languages write one before their JSON, and Python's decoder skips it."""
    body = b"\xef\xbb\xbf" + json.dumps({"model": "m", "prompt": "a", "messages": []}).encode()

    assert read_body(body, ENDPOINTS[endpoint]).model == "m"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","stream":true,"stream_options":null}',
        b'{ "stream_options" : null , "messages":[{"content":"a \\"stream_options\\":null"}]}',
    ],
)
def test_who_says_null_is_asked_for_as_well(body):
    """Some clients write all that they do not set; the key must not stand there twice."""
    found = read_body(body, CHAT)
    assert (found.asks_usage, found.nulls_options) == (False, True)

    asked = with_usage(body, nulls_options=True)

    assert asked is not None
    assert json.loads(asked) == json.loads(body) | {"stream_options": {"include_usage": True}}
    assert len(json.loads(asked, object_pairs_hook=list)) == len(json.loads(body))


def test_a_null_that_is_not_found_stays():
    """Its key is escaped, or stands in another object too."""
    for body in (
        b'{"stream_option\\u0073":null}',
        b'{"x":{"stream_options":null},"stream_options":null}',
    ):
        assert read_body(body, CHAT).nulls_options
        assert with_usage(body, nulls_options=True) is None


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4),
    st.sampled_from(["", " ", "\n\t"]),
)
def test_usage_is_asked_for_without_touching_the_rest(fields, space):
    """The body says the same as before and asks for the usage; what the client says counts more."""
    body = (space + json.dumps(fields)).encode()

    asked = with_usage(body)

    if fields:
        assert asked is not None
        assert json.loads(asked) == {"stream_options": {"include_usage": True}} | fields
    else:
        assert asked is None


def test_fields_stand_where_they_are_taken() -> None:
    names = CommonFields.__struct_fields__
    places = {
        "model": read.MODEL, "stream": read.STREAM, "max_tokens": read.OLD_CAP,
        "max_completion_tokens": read.NEW_CAP, "stream_options": read.OPTIONS, "n": read.N,
        "best_of": read.BEST_OF, "tools": read.TOOLS, "system": read.SYSTEM,
        "documents": read.DOCUMENTS, "functions": read.FUNCTIONS, "prompt_embeds": read.EMBEDS,
            "cache_salt": read.CACHE_SALT, "prompt_cache_key": read.CACHE_KEY,
    }  # fmt: skip
    assert places == {name: place for place, name in enumerate(names)}
    assert Message.__struct_fields__ == (
        "content", "tool_calls", "function_call", "reasoning", "reasoning_content"
    )  # fmt: skip


def test_only_a_response_goes_on_from_another():
    """In any other body the field means nothing to an engine."""
    assert llm_request("responses", previous_response_id="resp_1").previous == "resp_1"
    assert llm_request("chat", previous_response_id="resp_1").previous is None
