"""Streams: whole events out, and the same story however the network cut them."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.events import event_of
from gateway.proxy.framing import events
from gateway.proxy.sse import LONGEST_EVENT, UNKNOWN, KnownFingerprint, StreamMeter
from gateway.routing.endpoints import MESSAGES, RESPONSES


def event(data):
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def delta(finish=None, **fields):
    return event({"id": "c", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


ROLE = delta(role="assistant", content="")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 4}})
DONE = event(b"[DONE]")
ERROR = event({"error": {"message": "EngineCore", "type": "InternalServerError", "code": 500}})
WORDS = [delta(content=w) for w in ("a", "", " ü\u2028b")]
CHAT = [ROLE, *WORDS, delta("stop", content=" c"), USAGE, DONE]
TGI = [b": keep-alive\n\n", *WORDS, b":\n\n", delta("length", content="c"), DONE]
TEXT = [event({"choices": [{"text": w, "finish_reason": None}]}) for w in "ab"]
STREAMS = {
    "chat": CHAT,
    "tgi": TGI,
    "text": [*TEXT, event({"choices": [{"text": "", "finish_reason": "stop"}]}), DONE],
    "error": [ROLE, WORDS[0], ERROR, DONE],
    "cut": [ROLE, WORDS[0], WORDS[2], b'data: {"choices": [{"del'],
    "nothing": [ROLE, DONE],
    "no done": [ROLE, *WORDS, delta("stop", content="c")],
}


def play(*chunks):
    """A meter after a chunk per second, and what it let pass."""
    meter = StreamMeter()
    passed = [meter.feed(chunk, float(now_s)) for now_s, chunk in enumerate(chunks)]
    return meter, passed


def story(meter):
    whole, error = meter.finish()
    usage = meter.usage and (meter.usage.prompt_tokens, meter.usage.completion_tokens)
    return whole, error, usage, meter.output_tokens


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("name", STREAMS)
@given(data=st.data())
def test_cuts_do_not_matter(name, ending, data):
    """Any split of a stream into reads passes the same bytes and tells the same story."""
    stream = b"".join(STREAMS[name]).replace(b"\n", ending)
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=12, unique=True))
    edges = [0, *sorted(places), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]

    meter, passed = play(*chunks)
    expected, at_once = play(stream)

    assert b"".join(passed) == b"".join(at_once)
    assert story(meter) == story(expected)
    # Every moment is that of the read that completed the event.
    assert (meter.first_at_s is None) == (expected.first_at_s is None)
    if meter.first_at_s is not None:
        assert meter.first_at_s <= meter.last_at_s <= len(chunks) - 1


@given(st.lists(st.integers(1, 400), max_size=8, unique=True))
def test_only_whole_events_pass(places):
    """Whatever was passed on, an error event can follow cleanly."""
    stream = b"".join(CHAT)
    edges = [0, *sorted(p for p in places if p < len(stream)), len(stream)]

    _, passed = play(*(stream[a:b] for a, b in pairwise(edges)))

    assert all(part == b"" or part.endswith(b"\n\n") for part in passed)
    assert b"".join(passed) == stream


def test_a_part_of_an_event_is_held_back():
    """The beginning of an event never reaches the client when the rest does not come."""
    meter, passed = play(ROLE + WORDS[0] + b'data: {"choi', b"ces")

    assert passed == [ROLE + WORDS[0], b""]
    assert meter.finish() == (False, None)


def test_the_first_token_is_the_first_output():
    """Neither the role chunk nor empty content is a token; what follows is."""
    meter, _ = play(ROLE, delta(content=""), delta(content="a"), delta(content="b"), DONE)

    assert (meter.first_at_s, meter.last_at_s) == (2.0, 4.0)


@pytest.mark.parametrize(
    "token",
    [
        delta(content="a"),
        delta(reasoning="hm"),
        delta(reasoning_content="hm"),
        delta(tool_calls=[{"index": 0, "function": {"name": "f"}}]),
        delta(refusal="no"),
        delta("stop"),
        event({"choices": [{"index": 0, "text": "a"}]}),
        event({"choices": [{"index": 1, "delta": {"content": "a"}}], "x": {"y": [1]}}),
    ],
)
def test_any_output_is_a_token(token):
    """Reasoning, tool calls, text and a forced end are what the engine worked for."""
    meter, _ = play(ROLE, token, DONE)

    assert meter.first_at_s == 1.0


def test_tokens_are_as_reported():
    """`usage` beats counting."""
    meter, _ = play(*CHAT)

    assert meter.finish() == (True, None)
    assert (meter.output_tokens, meter.usage.prompt_tokens) == (4, 11)


def test_tokens_are_counted_where_nothing_is_reported():
    """One an event from the first token on; role and [DONE] are none."""
    meter, _ = play(ROLE, *WORDS, delta("stop", content="c"), DONE)
    meter.finish()

    assert meter.output_tokens == 4


def test_time_per_output_token():
    """(last − first) / (tokens − 1), unknown for a single token."""
    meter, _ = play(ROLE, delta(content="a"), delta(content="b"), delta("stop", content="c"))
    meter.finish()
    assert meter.tpot_s == 1.0

    single, _ = play(ROLE, delta("stop", content="a"))
    single.finish()
    assert single.tpot_s is None


def test_error_events_are_told():
    """The error object of an engine that failed in the middle, [DONE] or not."""
    for tail in ([DONE], []):
        meter, passed = play(ROLE, WORDS[0], ERROR, *tail)
        _, error = meter.finish()

        assert json.loads(error)["code"] == 500
        assert ERROR in passed


def test_an_error_before_any_output_is_a_refusal():
    """vLLM reports overload as the first event of a 200, and may send the role before it."""
    for stream in ([b": hello\n\n", ERROR + DONE], [ROLE, ERROR], [event(b"no object"), ERROR]):
        meter, _ = play(*stream)

        assert meter.begun
        assert json.loads(meter.refused)["message"] == "EngineCore"
    assert play(ROLE, WORDS[0], ERROR)[0].refused is None


@pytest.mark.parametrize(
    ("stream", "begun", "empty"),
    [
        ([b": hello\n\n", ROLE, ROLE], False, True),
        ([ROLE, WORDS[0]], True, False),
        ([ROLE, DONE], True, True),
        ([ROLE, delta("abort", content="")], True, True),
        ([delta("stop", content="")], True, False),
        ([event({"unknown": 1})] * (UNKNOWN + 1), True, False),
    ],
)
def test_a_stream_begins_with_its_first_output(stream, begun, empty):
    """Until then another backend can be asked; events of an unknown kind are waited for only so
    long."""
    meter, _ = play(*stream)

    assert (meter.begun, meter.empty) == (begun, empty)


@pytest.mark.parametrize("usage", [[], [USAGE]], ids=["", "usage"])
@pytest.mark.parametrize(
    "last",
    [[], [delta("abort", content="")], [delta("error", content="x")], [WORDS[0]]],
    ids=["nothing", "abort", "error", "text"],
)
def test_an_engine_that_stops_ends_nothing_cleanly(last, usage):
    """Its [DONE] is held back, so that the client hears of it: an answer that is whole has a finish
    reason, and not that it was given up."""
    for stream in ([ROLE, *WORDS, *last, *usage, DONE], [b"".join([*WORDS, *last, *usage, DONE])]):
        meter, passed = play(*stream)

        assert meter.finish() == (False, None)
        assert b"".join(passed) == b"".join(stream).removesuffix(DONE)


def test_a_stream_ends_whole_or_not():
    """A finish reason is an end, with [DONE] or without; silence is not."""
    for stream, whole in (
        ([ROLE, *WORDS], False),
        ([ROLE, *WORDS, DONE], False),
        ([ROLE, *WORDS, delta("length", content="x")], True),
        ([ROLE, *WORDS, delta("length", content="x"), USAGE], True),
        ([], False),
    ):
        assert play(*stream)[0].finish() == (whole, None)


def test_an_endless_event_is_passed_on():
    """Held-back bytes are bounded."""
    chunk = b"data: " + b"x" * LONGEST_EVENT
    meter, passed = play(chunk, b"y\n\n")

    assert passed == [chunk, b"y\n\n"]
    assert meter.begun  # nobody waits for the rest before the client gets it
    assert not meter.empty


FINISH = delta("stop", content="")


@pytest.mark.parametrize(
    ("last", "whole", "code", "tokens"),
    [
        (WORDS[0] + ERROR + USAGE + DONE, False, 500, 4),
        (ERROR + WORDS[0], False, 500, None),
        (USAGE + FINISH, True, None, 4),
        (USAGE + FINISH + DONE, True, None, 4),
        (FINISH + WORDS[0], True, None, None),
        (WORDS[0] + DONE, False, None, None),
        (WORDS[0] + WORDS[2], False, None, None),
    ],
)
def test_the_end_is_read_in_any_order(last, whole, code, tokens):
    """Not all engines say finish, usage and [DONE] in that order."""
    meter, _ = play(ROLE, last)
    ended, error = meter.finish()

    assert ended is whole
    assert (json.loads(error)["code"] if error else None) == code
    assert (meter.usage and meter.usage.completion_tokens) == tokens


@given(st.binary(max_size=80))
def test_garbage_is_no_event(data):
    """What is not an object of ours is nothing, never an exception."""
    event_of(data)
    meter, _ = play(data, b"data: " + data + b"\n\n", DONE)
    meter.finish()


def test_framing():
    """Comments and other fields are no data; `data:` may come without a space."""
    chunk = b': x\n\nevent: e\nid: 1\ndata:{"a":1}\n\ndata: [DONE]\r\n\r\n'

    assert [data.strip() for data in events(chunk)] == [b'{"a":1}', b"[DONE]"]


@given(data=st.data())
def test_usage_nobody_asked_for_is_read_and_not_passed_on(data):
    """However a stream is cut, a client that did not ask gets all but the event of the usage."""
    stream = b"".join(CHAT)
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=8, unique=True))
    edges = [0, *sorted(places), len(stream)]
    meter = StreamMeter(hide_usage=True)

    passed = b"".join(meter.feed(stream[a:b], 1.0) for a, b in pairwise(edges))

    assert passed == stream.replace(USAGE, b"")
    assert story(meter) == (True, None, (11, 4), 4)


REPORT = {"prompt_tokens": 11, "completion_tokens": 4}


def flat(value):
    """JSON without spaces, as vLLM writes it."""
    return event(json.dumps(value, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "usage",
    [
        event({"choices": [], "usage": REPORT}),
        flat({"choices": [], "usage": REPORT}),
        flat({"usage": REPORT}),
        flat({"choices": None, "usage": REPORT}),
        event(b'{"choices" : [ ], "usage" :\t' + json.dumps(REPORT).encode() + b"}"),
        event(json.dumps({"usage": REPORT}, indent=1).encode().replace(b"\n", b"\ndata: ")),
        flat({"choices": [], "usage": {"prompt_tokens": 11.0, "completion_tokens": "4", "x": []}}),
    ],
    ids=["spaces", "plain", "no choices", "null", "odd spaces", "lines", "odd numbers"],
)
def test_usage_nobody_asked_for_is_hidden_in_every_form(usage):
    """It is read as JSON: neither spaces nor how the choices are missing matter."""
    for stream in ([ROLE, *WORDS, FINISH, usage, DONE], [ROLE + FINISH + usage + DONE]):
        meter = StreamMeter(hide_usage=True)
        passed = b"".join(meter.feed(chunk, 1.0) for chunk in stream)

        assert passed == b"".join(stream).replace(usage, b"")
        assert story(meter) == (True, None, (11, 4), 4)


@pytest.mark.parametrize(
    "other",
    [
        flat({"choices": [], "prompt_filter_results": [{}]}),
        flat({"choices": [], "usage": None}),
        delta(content='{"choices":[],"usage":{"prompt_tokens":1}}'),
        flat({"choices": [{"index": 0, "delta": {}, "finish_reason": None}], "usage": REPORT}),
        event(b'"usage"'),
    ],
    ids=["filter", "null usage", "text", "with a choice", "no object"],
)
def test_nothing_else_is_hidden(other):
    """What a backend says without being asked reaches the client, in its place."""
    stream = [other, ROLE, *WORDS, FINISH, other, USAGE, DONE]
    meter = StreamMeter(hide_usage=True)

    passed = b"".join(meter.feed(chunk, 1.0) for chunk in stream)

    assert passed.replace(USAGE, b"") == b"".join(stream).replace(USAGE, b"")


def test_the_last_usage_counts_wherever_it_stands():
    """Before the end, with a finish reason, or with empty events behind it; null says nothing."""
    empty = flat({"choices": [{"index": 0, "delta": {}, "finish_reason": None}], "usage": None})
    early = flat({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": REPORT})
    older = flat({"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 9}})

    meter, _ = play(ROLE, older, WORDS[0], early, *[empty] * 5, DONE)

    assert story(meter) == (True, None, (11, 4), 4)


def test_usage_that_an_operator_forced_stays():
    """vLLM with --enable-force-include-usage gives it in every event, with or without us."""
    words = [
        flat({"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 11}})
        for _ in range(3)
    ]
    stream = [ROLE, *words, FINISH, USAGE, DONE]
    meter = StreamMeter(hide_usage=True)

    assert b"".join(meter.feed(chunk, 1.0) for chunk in stream) == b"".join(stream)
    assert story(meter) == (True, None, (11, 4), 4)


@given(data=st.data())
def test_the_fingerprint_stays_where_the_client_would_find_it(data):
    """vLLM says it in the last object of a stream, which without us is the end of the answer."""
    end = {"choices": [{"index": 0, "delta": {"content": " c"}, "finish_reason": "stop"}]}
    usage = flat({"choices": [], "usage": REPORT, "system_fingerprint": "vllm-1"})
    stream = b"".join([ROLE, *WORDS, flat(end), usage, DONE])
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=8, unique=True))
    edges = [0, *sorted(places), len(stream)]
    meter = StreamMeter(hide_usage=True)

    passed = b"".join(meter.feed(stream[a:b], 1.0) for a, b in pairwise(edges))

    expected = [ROLE, *WORDS, flat({**end, "system_fingerprint": "vllm-1"}), DONE]
    assert passed == b"".join(expected)


def test_every_choice_has_the_fingerprint_of_a_known_engine():
    """vLLM says it at the end of each; asked for the usage only there, when the others have long
    been passed on. So the first stream of an engine has it at its last end, and others at all."""
    known = KnownFingerprint()
    ends = [
        {"choices": [{"index": n, "delta": {"content": "c"}, "finish_reason": "stop"}]}
        for n in range(2)
    ]
    usage = {"choices": [], "usage": REPORT, "system_fingerprint": "vllm-1"}
    marked = [flat({**end, "system_fingerprint": "vllm-1"}) for end in ends]

    def passed(*stream, several=True):
        meter = StreamMeter(hide_usage=True, fingerprint=known, several=several)
        return b"".join(meter.feed(piece, 1.0) for piece in stream)

    stream = [ROLE, flat(ends[0]), *WORDS, flat(ends[1]), flat(usage), DONE]
    first, second = passed(*stream), passed(*stream)
    newer = passed(*stream[:-2], flat({**usage, "system_fingerprint": "vllm-2"}), DONE)

    assert first == b"".join([ROLE, flat(ends[0]), *WORDS, marked[1], DONE])
    assert second == b"".join([ROLE, marked[0], *WORDS, marked[1], DONE])
    assert newer.count(b"vllm-2") == 1
    assert passed(*stream).count(b"vllm-2") == 1  # that of the last, as this stream says it
    assert passed(FINISH, DONE, several=False) == FINISH + DONE


def test_an_engine_without_a_fingerprint_gets_none():
    """As with one choice."""
    known = KnownFingerprint()
    usage = flat({"choices": [], "usage": REPORT})
    for _ in range(2):
        meter = StreamMeter(hide_usage=True, fingerprint=known, several=True)
        stream = [ROLE, FINISH, WORDS[0], FINISH, usage, DONE]
        out = b"".join(meter.feed(piece, 1.0) for piece in stream)
        assert out == b"".join([ROLE, FINISH, WORDS[0], FINISH, DONE])


def test_the_end_of_an_answer_never_waits_for_long():
    """Whatever comes behind it brings it to the client: an answer beside it, a comment, the end."""
    for behind in (WORDS[0], b": ping\n\n", ERROR, DONE):
        meter = StreamMeter(hide_usage=True)
        assert meter.feed(FINISH, 1.0) == b""
        assert meter.feed(behind, 2.0) == FINISH + behind
    meter = StreamMeter(hide_usage=True)
    meter.feed(FINISH, 1.0)
    assert meter.flush(2.0) == FINISH
    meter.feed(FINISH, 1.0)
    assert meter.release() == FINISH


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize(
    ("last", "passed", "whole"),
    [
        ([FINISH, b"data: [DONE]\n"], FINISH + b"data: [DONE]\n", True),
        ([FINISH, b"data: [DONE]"], FINISH + b"data: [DONE]", True),
        ([FINISH[:-1]], FINISH[:-1], True),
        ([FINISH.strip()], FINISH.strip(), True),
        ([FINISH, b": bye"], FINISH + b": bye", True),
        ([WORDS[0][:-1]], WORDS[0], False),
        ([b"data: [DONE]\n"], b"", False),
        ([WORDS[0][:-9]], b"", False),
    ],
)
def test_what_is_held_at_the_end_of_a_body_passes(last, passed, whole, hide):
    """Servers forget the empty line behind their last event; but bytes that are no event would
    stand in the way of the error that follows."""
    meter = StreamMeter(hide_usage=hide)
    begun = [ROLE, WORDS[0]]
    out = b"".join(meter.feed(chunk, 1.0) for chunk in [*begun, *last]) + meter.flush(2.0)

    assert out == b"".join(begun) + passed
    assert meter.finish() == (whole, None)


def test_an_event_may_have_several_lines():
    """Data lines of one event belong together (WHATWG HTML §9.2.6)."""
    lines = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]}, indent=1)
    meter, _ = play(ROLE, WORDS[0], event(lines.encode().replace(b"\n", b"\ndata: ")), DONE)

    assert meter.finish() == (True, None)


def typed(kind, **fields):
    """An event that says its kind, twice."""
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


ANSWER = {"id": "resp_1", "error": None, "usage": None}
ANSWERED = ANSWER | {"usage": {"input_tokens": 11, "output_tokens": 4}}
RESPONSE = [
    typed("response.created", response=ANSWER | {"status": "in_progress"}),
    typed("response.output_item.added", item={"type": "message"}),
    *[typed("response.output_text.delta", delta=word) for word in ("a", " b")],
    typed("response.output_text.done", text="a b"),
    typed("response.completed", response=ANSWERED | {"status": "completed"}),
]
MESSAGE = [
    typed("message_start", message={"id": "m", "usage": {"input_tokens": 11, "output_tokens": 0}}),
    typed("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    typed("ping"),
    *[
        typed("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
        for word in ("a", " b")
    ],
    typed("content_block_stop", index=0),
    typed("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 4}),
    typed("message_stop"),
]


def follow(endpoint, *chunks):
    meter = StreamMeter(endpoint=endpoint)
    return meter, [meter.feed(chunk, float(now_s)) for now_s, chunk in enumerate(chunks)]


@pytest.mark.parametrize(
    ("endpoint", "stream", "first_s"), [(RESPONSES, RESPONSE, 2.0), (MESSAGES, MESSAGE, 3.0)]
)
def test_streams_whose_events_say_their_kind(endpoint, stream, first_s):
    """First output, usage and end are read, in whatever pieces; there is no [DONE]."""
    meter, passed = follow(endpoint, *stream)

    assert passed == stream
    assert story(meter) == (True, None, (11, 4), 4)
    assert (meter.first_at_s, meter.over) == (first_s, True)
    assert meter.answer_id == ("resp_1" if endpoint is RESPONSES else None)

    whole = b"".join(stream)
    meter, passed = follow(endpoint, *[whole[at : at + 7] for at in range(0, len(whole), 7)])
    assert b"".join(passed) == whole
    assert story(meter) == (True, None, (11, 4), 4)


@pytest.mark.parametrize(("endpoint", "stream"), [(RESPONSES, RESPONSE), (MESSAGES, MESSAGE)])
def test_such_a_stream_that_is_cut_is_not_whole(endpoint, stream):
    """It is counted by its events, and ends in an error."""
    end = -1 if endpoint is RESPONSES else -2
    meter, _ = follow(endpoint, *stream[:end])

    assert meter.finish() == (False, None)
    assert meter.output_tokens == 2
    assert not meter.over


@pytest.mark.parametrize(
    ("endpoint", "event"),
    [
        (RESPONSES, typed("response.failed", response={"id": "r", "error": {"message": "oh"}})),
        (RESPONSES, typed("error", message="oh", code="x")),
        (RESPONSES, b'data: {"error":{"message":"oh"}}\n\n'),
        (MESSAGES, typed("error", error={"type": "overloaded_error", "message": "oh"})),
    ],
)
def test_such_a_stream_tells_errors(endpoint, event):
    """Before the first output it is a refusal; later it is the end."""
    begin = RESPONSE if endpoint is RESPONSES else MESSAGE
    meter, _ = follow(endpoint, begin[0], event)
    assert json.loads(meter.refused)["message"] == "oh"

    meter, passed = follow(endpoint, *begin[:5], event)
    whole, error = meter.finish()
    assert (whole, json.loads(error)["message"], passed[-1]) == (False, "oh", event)


def test_a_message_that_was_given_up_is_not_whole():
    """As for choices."""
    given_up = typed("message_delta", delta={"stop_reason": "abort"}, usage={"output_tokens": 4})
    meter, _ = follow(MESSAGES, *MESSAGE[:6], given_up, MESSAGE[-1])

    assert meter.finish() == (False, None)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_response_that_was_given_up_is_not_whole(status):
    """vLLM has one last event for all ends, which says in its response how it was."""
    given_up = typed("response.completed", response=ANSWERED | {"status": status})
    meter, _ = follow(RESPONSES, *RESPONSE[:-1], given_up)

    assert meter.finish() == (False, None)


@pytest.mark.parametrize("end", ["\r\r", "\r\n\r\n", "\n\r\n", "\r\n\n"])
@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_lines_may_end_in_any_way(end, cut):
    """The standard knows three ends of a line; a stream of carriage returns alone gets others."""
    whole = b"".join(
        [word.rstrip() + end.encode() for word in (WORDS[0], WORDS[2], delta("stop"), DONE)]
    )
    meter = StreamMeter(hide_usage=True)
    passed = [meter.feed(whole[at : at + cut], 1.0) for at in range(0, len(whole), cut)]
    told = b"".join([*passed, meter.flush(2.0)])

    assert told.split() == whole.split()
    assert (meter.finish(), meter.output_tokens, meter.over) == ((True, None), 3, True)


def test_an_event_of_many_lines_is_one():
    """So that what is counted where no usage is told are events."""
    event = b"".join(
        b"data: " + line + b"\n" for line in (b'{"choices":[{"delta":', b'{"content":"a"}}]}')
    )
    meter = StreamMeter()
    meter.feed(event + b"\n" + event + b"\n", 1.0)

    assert meter.output_tokens == 2


@pytest.mark.parametrize("before", [0, 1])
def test_an_error_may_have_its_fields_beside_it(before):
    """As engines wrote it once; what it says is not lost."""
    flat = b'data: {"object":"error","message":"oh","code":400}\n\n'
    meter = StreamMeter()
    for chunk in (*WORDS[:before], flat, DONE):
        meter.feed(chunk, 1.0)
    whole, error = meter.finish()

    assert (whole, json.loads(error or b"")) == (False, {"message": "oh", "code": 400})
    assert (meter.refused is None) is bool(before)


@pytest.mark.parametrize("spaced", [False, True])
def test_an_event_that_begins_and_ends_like_others_is_still_searched(spaced):
    """Most events differ in their text only, but a usage or an end may stand in the middle."""

    def event(middle: str) -> bytes:
        text = '{"id":"c","choices":[{"index":0,"delta":{"content":"a"}%s,"finish_reason":null}]}'
        text = (text % middle).replace(":", ": ") if spaced else text % middle
        return f"data: {text}\n\n".encode()

    meter = StreamMeter()
    for _ in range(3):
        assert meter.feed(event(""), 1.0) == event("")
    meter.feed(event(',"finish_reason":"stop"},{"index":1'), 2.0)
    meter.feed(event('}],"usage":{"prompt_tokens":5,"completion_tokens":7},"x":[{"y":0'), 3.0)

    assert meter.output_tokens == 7
    assert meter.finish() == (True, None)
