"""Bodies as an emulated engine reads them: whatever stands in them is answered or refused."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.emulator.refusals import RequestRefused
from loadtest.emulator.requests import GenerationRequest, read_request
from loadtest.emulator.served import EmulatedModel
from loadtest.emulator.streams import choice_events, whole_body
from loadtest.emulator.structure import sample

SERVED = EmulatedModel(
    names=("tiny", "small"), max_model_len=500, loras=("sql",), image_tokens=7, tool_parser=True
)
HEAD = {"id": "x-1", "object": "o", "created": 1, "model": "tiny"}
APIS = ("chat", "text", "embedding", "response", "message")
TOOL = {"type": "function", "name": "f", "input_schema": {}, "function": {"name": "f"}}
BLOCKS = st.sampled_from(
    [
        {"type": "text", "text": "a b"}, {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "tool_result", "content": [{"type": "text", "text": "x"}]}, {"type": "tool_use"},
    ]
)  # fmt: skip
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 600), st.floats(-3, 3), st.text(max_size=3),
    st.lists(st.one_of(st.integers(0, 9), st.text(max_size=3), st.none()), max_size=3),
    st.dictionaries(st.sampled_from(["type", "name", "function", "x"]), st.text(max_size=3)),
)  # fmt: skip
TURNS = st.lists(
    st.one_of(
        JUNK,
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "tool", "assistant"])},
            optional={
                "content": st.one_of(JUNK, st.lists(st.one_of(BLOCKS, JUNK), max_size=2)),
                "tool_calls": JUNK,
            },
        ),
    ),
    max_size=3,
)
SCHEMAS = st.recursive(
    st.one_of(JUNK, st.sampled_from([{"type": "string"}, {"enum": [1]}, {"type": ["null"]}])),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"type": st.just("string"), "maxLength": JUNK, "minLength": JUNK}),
        st.fixed_dictionaries({"type": st.just("integer"), "minimum": JUNK, "maximum": JUNK}),
        st.fixed_dictionaries({"type": st.just("object"), "properties": inner}),
        st.fixed_dictionaries({"properties": st.dictionaries(st.text(max_size=2), inner)}),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner, "minItems": JUNK}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=2)}),
    ),
    max_leaves=4,
)
FIELDS = {
    "model": st.sampled_from(["tiny", "small", "sql", "no", 5]),
    "messages": st.one_of(TURNS, JUNK),
    "prompt": st.one_of(JUNK, st.just(["a b", "c"]), st.just([[1, 2], [3]])),
    "input": st.one_of(TURNS, JUNK),
    "max_tokens": JUNK,
    "n": JUNK,
    "best_of": JUNK,
    "stop": JUNK,
    "temperature": JUNK,
    "top_p": JUNK,
    "top_k": JUNK,
    "min_tokens": JUNK,
    "stream": st.booleans(),
    "stream_options": st.one_of(JUNK, st.just({"include_usage": True})),
    "logprobs": JUNK,
    "top_logprobs": JUNK,
    "echo": JUNK,
    "system": st.one_of(JUNK, st.lists(BLOCKS, max_size=1)),
    "instructions": JUNK,
    "tools": st.one_of(JUNK, st.lists(st.one_of(JUNK, st.just(TOOL)), max_size=2)),
    "tool_choice": st.one_of(
        JUNK, st.sampled_from(["auto", "none", "required", {"type": "any"}]),
        st.just({"type": "tool", "name": "f", "function": {"name": "f"}}),
    ),
    "response_format": st.one_of(
        JUNK, st.just({"type": "json_object"}),
        st.builds(
            lambda s: {"type": "json_schema", "json_schema": {"schema": s}, "schema": s}, SCHEMAS
        ),
    ),
    "structured_outputs": st.builds(lambda schema: {"json": schema}, SCHEMAS),
    "text": st.builds(lambda s: {"format": {"type": "json_schema", "schema": s}}, SCHEMAS),
    "vllm_xargs": st.one_of(JUNK, st.just({"output_tokens": 5})),
    "max_output_tokens": JUNK,
    "suffix": JUNK,
}  # fmt: skip


def answers(request: GenerationRequest) -> list[bytes]:
    """Every answer to a request, whole or as its events."""
    made = [whole_body(request, HEAD)]
    for sequence, total in enumerate(request.output_tokens):
        events = choice_events(request, HEAD, sequence, chunked=True)
        if events is not None:
            made += [events.begin(), events.tokens(0, total, 3), events.end(request.output_total)]
    return made


@pytest.mark.parametrize("api", APIS)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(body=st.fixed_dictionaries({}, optional=FIELDS))
def test_every_body_is_answered_or_refused(api, body):
    """Nothing in a request makes the engine fail, and what it accepts fits its context."""
    try:
        request = read_request(msgspec.json.encode(body), api, SERVED)
    except RequestRefused:
        return
    for prompt, output in zip(request.prompt_tokens, request.output_tokens, strict=True):
        assert prompt >= 1
        assert output >= 1
        assert prompt + output <= 500
    assert all(isinstance(part, bytes) for part in answers(request))


@pytest.mark.parametrize("depth", [1, 8])
@settings(deadline=None)
@given(schema=SCHEMAS)
def test_every_schema_has_a_sample_or_is_refused(depth, schema):
    """A sample is JSON, whatever the schema asks for."""
    try:
        value = sample(schema, depth)
    except RequestRefused:
        return
    assert msgspec.json.decode(msgspec.json.encode(value)) == value


@pytest.mark.parametrize("name", ["minItems", "minLength"])
def test_a_schema_does_not_choose_how_much_memory_is_used(name):
    """Of a billion items or characters only some are made."""
    kind = {"minItems": "array", "minLength": "string"}[name]

    assert len(sample({"type": kind, name: 10**9})) <= 1200


def test_a_schema_that_refers_to_itself_ends():
    """Below a depth everything is null."""
    schema: dict[str, object] = {"type": "array"}
    schema["items"] = schema

    assert sample(schema) == [[[[[[[[None]]]]]]]]


def test_the_same_question_has_the_same_answer_however_it_is_told():
    """A gateway in between may ask for the usage, or use another name of the model."""
    plain = {"model": "tiny", "messages": [{"role": "user", "content": "why?"}], "max_tokens": 99}
    asked = {"stream_options": {"include_usage": True}, **plain, "stream": True, "model": "small"}
    other = {**plain, "messages": [{"role": "user", "content": "how?"}]}
    read = [read_request(msgspec.json.encode(b), "chat", SERVED) for b in (plain, asked, other)]
    seeds = [one.seed for one in read if isinstance(one, GenerationRequest)]

    assert seeds[0] == seeds[1] != seeds[2]
