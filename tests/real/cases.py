"""Requests that are sent to two servers, whose answers are compared: what clients send, and what
they get wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODEL = "tiny"
CONTEXT = 512  # of the engines
END = 0  # the id of the real tokenizer's token that ends an answer
USER = [{"role": "user", "content": "ba de fi go lu ma"}]
LONG = "ba de fi go " * (CONTEXT // 3)
MUCH_TOO_LONG = "ba de fi go " * (CONTEXT * 4)
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
ANTHROPIC = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": WEATHER["parameters"],
}
TOOL = {"type": "function", "function": WEATHER}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
STREAM: dict[str, Any] = {"stream": True}
USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
CONTINUOUS: dict[str, Any] = {
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}
# Three tokens and then the one that ends: a real engine by the bias, an emulated one by the rest.
ENDS: dict[str, Any] = {
    "ignore_eos": False,
    "min_tokens": 3,
    "logit_bias": {str(END): 100},
    "vllm_xargs": {"output_tokens": 3},
    "max_tokens": 16,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One request. body: bytes as they are, else what becomes JSON. varies: whether the answer's
    text differs from time to time, though the request is the same."""

    name: str
    path: str
    body: Any = None
    method: str = "POST"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    varies: bool = False


def chat(name: str, *, varies: bool = False, **given: Any) -> Case:
    base: dict[str, Any] = {"model": MODEL, "messages": USER, "max_tokens": 6, "temperature": 0}
    body = {**base, "ignore_eos": True, **given}
    body = {key: value for key, value in body.items() if value is not ...}
    return Case(f"chat {name}", "/v1/chat/completions", body, varies=varies)


def text(name: str, *, varies: bool = False, **given: Any) -> Case:
    base: dict[str, Any] = {"model": MODEL, "prompt": "ba de fi", "max_tokens": 6}
    body = {**base, "temperature": 0, "ignore_eos": True, **given}
    body = {key: value for key, value in body.items() if value is not ...}
    return Case(f"completion {name}", "/v1/completions", body, varies=varies)


def response(name: str, **given: Any) -> Case:
    base: dict[str, Any] = {"model": MODEL, "input": "ba de fi go", "max_output_tokens": 6}
    body = {**base, "temperature": 0, "ignore_eos": True, **given}
    return Case(f"response {name}", "/v1/responses", {k: v for k, v in body.items() if v != ...})


def message(name: str, **given: Any) -> Case:
    base: dict[str, Any] = {"model": MODEL, "messages": USER, "max_tokens": 6, "temperature": 0}
    body = {**base, **given}
    return Case(f"message {name}", "/v1/messages", {k: v for k, v in body.items() if v != ...})


def raw(name: str, body: bytes, **headers: str | None) -> Case:
    renamed = {key.replace("_", "-"): value for key, value in headers.items()}
    return Case(f"raw {name}", "/v1/chat/completions", body, headers=renamed)


def get(path: str) -> Case:
    return Case(f"get {path}", path, method="GET")


NAMED = {"type": "function", "function": {"name": "get_weather"}}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
PLAIN = (
    b'{"model":"tiny","max_tokens":3,"temperature":0,"messages":[{"role":"user","content":"ba"}]}'
)

CHATS = (
    chat("plain"),
    chat("stream", **STREAM),
    chat("stream with usage", **USAGE),
    chat("stream with usage all along", **CONTINUOUS),
    chat("ends", **ENDS),
    chat("ends, stream", **ENDS, **USAGE),
    chat("one token, stream", max_tokens=1, **STREAM),
    chat("max_completion_tokens", max_tokens=..., max_completion_tokens=4),
    chat("two choices", n=2, temperature=0.9, varies=True),
    chat("two choices, stream", n=2, temperature=0.9, varies=True, **USAGE),
    chat("stop", stop=["zz", "a"], max_tokens=32),
    chat("stop, stream", stop=["zz", "a"], max_tokens=32, **USAGE),
    chat("logprobs", logprobs=True, top_logprobs=2),
    chat("logprobs, stream", logprobs=True, top_logprobs=2, **STREAM),
    chat("prompt_logprobs", prompt_logprobs=1),
    chat("token ids", return_token_ids=True),
    chat("token ids, stream", return_token_ids=True, **STREAM),
    chat("tool of its choice", tools=[TOOL], tool_choice="none"),
    chat("tool by name", tools=[TOOL], tool_choice=NAMED, max_tokens=120, ignore_eos=False),
    chat(
        "tool by name, stream",
        tools=[TOOL],
        tool_choice=NAMED,
        max_tokens=120,
        ignore_eos=False,
        **USAGE,
    ),
    chat("tool, cut", tools=[TOOL], tool_choice=NAMED, max_tokens=56),
    chat("tool, cut, stream", tools=[TOOL], tool_choice=NAMED, max_tokens=56, **STREAM),
    chat("tool required", tools=[TOOL], tool_choice="required", max_tokens=120, ignore_eos=False),
    chat(
        "tool required, stream",
        tools=[TOOL],
        tool_choice="required",
        max_tokens=120,
        ignore_eos=False,
        **USAGE,
    ),
    chat("schema", response_format=JSON_SCHEMA, max_tokens=120, ignore_eos=False),
    chat("schema, stream", response_format=JSON_SCHEMA, max_tokens=120, ignore_eos=False, **USAGE),
    chat("parts", messages=[{"role": "user", "content": [{"type": "text", "text": "ba de"}]}]),
    chat("seed", seed=5, temperature=1.0),
    chat("system and turns", messages=[{"role": "system", "content": "go"}, *USER]),
    chat("no model", model=...),
)
TEXTS = (
    text("plain"),
    text("stream", **STREAM),
    text("stream with usage", **USAGE),
    text("stream with usage all along", **CONTINUOUS),
    text("ends", **ENDS),
    text("ends, stream", **ENDS, **USAGE),
    text("no limit", max_tokens=...),
    text("two prompts", prompt=["ba de", "fi go lu"]),
    text("two prompts, stream", prompt=["ba de", "fi go lu"], varies=True, **USAGE),
    text("ids", prompt=[300, 301, 302]),
    text("echo", echo=True),
    text("echo, logprobs", echo=True, logprobs=2),
    text("logprobs", logprobs=2),
    text("logprobs, stream", logprobs=2, **STREAM),
    text("best_of", best_of=2, temperature=0.9, varies=True),
    text("stop, stream", stop="a", max_tokens=32, **STREAM),
)
OTHERS = (
    response("plain"),
    response("stream", **STREAM),
    response("instructions", instructions="go lu"),
    response("turns", input=USER),
    response("no input", input=...),
    response("unknown model", model="nope"),
    response("too long", input=LONG),
    response("input a number", input=5),
    response("empty input", input=[]),
    response("max_output_tokens 0", max_output_tokens=0),
    response("temperature -1", temperature=-1),
    response("previous unknown", previous_response_id="resp_nope"),
    response(
        "tool",
        tools=[{"type": "function", **WEATHER}],
        tool_choice="required",
        max_output_tokens=120,
        ignore_eos=False,
    ),
    response("tool, cut", tools=[{"type": "function", **WEATHER}], tool_choice="required"),
    response(
        "tool, cut, stream",
        tools=[{"type": "function", **WEATHER}],
        tool_choice="required",
        max_output_tokens=56,
        **STREAM,
    ),
    response(
        "tool, stream",
        tools=[{"type": "function", **WEATHER}],
        tool_choice="required",
        max_output_tokens=120,
        ignore_eos=False,
        **STREAM,
    ),
    response(
        "schema",
        text={"format": {"type": "json_schema", "name": "s", "schema": SCHEMA}},
        max_output_tokens=120,
        ignore_eos=False,
    ),
    message("plain"),
    message("stream", **STREAM),
    message("system", system="go lu"),
    message("no limit", max_tokens=...),
    message("no messages", messages=...),
    message("unknown model", model="nope"),
    message("max_tokens 0", max_tokens=0),
    message("temperature -1", temperature=-1),
    message("empty messages", messages=[]),
    message("role unknown", messages=[{"role": "alien", "content": "ba"}]),
    message("tool", tools=[ANTHROPIC], tool_choice={"type": "any"}, max_tokens=56, ignore_eos=True),
    message(
        "tool, stream",
        tools=[ANTHROPIC],
        tool_choice={"type": "any"},
        max_tokens=56,
        ignore_eos=True,
        **STREAM,
    ),
    message("too long, stream", messages=[{"role": "user", "content": LONG}], **STREAM),
    message("stops", stop_sequences=["a"], max_tokens=32),
    message("stops, stream", stop_sequences=["a"], max_tokens=32, **STREAM),
    message("too long", messages=[{"role": "user", "content": LONG}]),
    Case("count_tokens", "/v1/messages/count_tokens", {"model": MODEL, "messages": USER}),
    Case("tokenize", "/tokenize", {"model": MODEL, "prompt": "ba de"}),
    Case("tokenize chat", "/tokenize", {"model": MODEL, "messages": USER}),
    Case("tokenize nothing", "/tokenize", {"model": MODEL}),
    Case("detokenize", "/detokenize", {"model": MODEL, "tokens": [300, 301]}),
    Case("count_tokens nothing", "/v1/messages/count_tokens", {"model": MODEL}),
    Case("tokenize unknown model", "/tokenize", {"model": "nope", "prompt": "ba"}),
    Case("detokenize nothing", "/detokenize", {"model": MODEL}),
    Case(
        "tokenize, texts",
        "/tokenize",
        {"model": MODEL, "prompt": "ba de", "return_token_strs": True},
    ),
    Case("embeddings", "/v1/embeddings", {"model": MODEL, "input": "ba"}),
)
MISTAKES = (
    chat("unknown model", model="nope"),
    chat("unknown model, stream", model="nope", **STREAM),
    text("unknown model", model="nope"),
    chat("too long", messages=[{"role": "user", "content": LONG}]),
    chat("too long, stream", messages=[{"role": "user", "content": LONG}], **STREAM),
    text("too long", prompt=LONG),
    chat("much too long", messages=[{"role": "user", "content": MUCH_TOO_LONG}]),
    text("much too long", prompt=MUCH_TOO_LONG),
    chat("max_tokens 0", max_tokens=0),
    text("max_tokens 0", max_tokens=0),
    chat("max_tokens -1", max_tokens=-1),
    chat("max_tokens beyond the context", max_tokens=5000),
    chat("max_tokens and prompt beyond the context", max_tokens=CONTEXT - 2),
    chat("max_tokens a word", max_tokens="abc"),
    chat("max_tokens digits", max_tokens="4"),
    chat("max_tokens 4.5", max_tokens=4.5),
    chat("n 0", n=0),
    chat("n 2, greedy", n=2),
    chat("temperature -1", temperature=-1),
    chat("top_p 2", top_p=2),
    chat("top_logprobs 99", logprobs=True, top_logprobs=99),
    chat("top_logprobs alone", top_logprobs=2),
    chat("presence_penalty 3", presence_penalty=3),
    chat("frequency_penalty -3", frequency_penalty=-3),
    chat("repetition_penalty 0", repetition_penalty=0),
    chat("top_k -2", top_k=-2),
    chat("min_p 2", min_p=2),
    chat("temperature a word", temperature="warm"),
    chat("logprobs a number", logprobs=5),
    chat("ignore_eos a word", ignore_eos="abc"),
    chat("prompt_logprobs, stream", prompt_logprobs=1, **STREAM),
    chat("prompt_logprobs 99", prompt_logprobs=99),
    chat("stop of numbers", stop=[1, 2]),
    chat("model a number", model=5),
    chat("tools without a name", tools=[{"type": "function", "function": {}}]),
    chat("tool unknown", tools=[TOOL], tool_choice={"type": "function", "function": {"name": "x"}}),
    chat("tool_choice without tools", tool_choice="required"),
    chat("response_format a word", response_format="json"),
    chat("response_format unknown", response_format={"type": "xml"}),
    chat("response_format without a schema", response_format={"type": "json_schema"}),
    chat(
        "schema of no object",
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": 5}},
    ),
    chat("min_tokens over max_tokens", min_tokens=9),
    chat("stop a number", stop=5),
    chat("stream a word", stream="maybe"),
    chat("stream_options alone", stream_options={"include_usage": True}),
    chat("no messages", messages=...),
    chat("empty messages", messages=[]),
    chat("messages a word", messages="ba"),
    chat("role unknown", messages=[{"role": "alien", "content": "ba"}]),
    chat(
        "picture",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
                ],
            }
        ],
    ),
    chat(
        "schema of no kind",
        response_format={**JSON_SCHEMA, "json_schema": {"name": "s", "schema": {"type": "wat"}}},
    ),
    chat("tools a word", tools="abc"),
    chat("unknown field", nonsense=3),
    text("empty prompt", prompt=""),
    text("ids out of range", prompt=[999_999_999]),
    text("no prompt", prompt=...),
    text("prompt a number", prompt=5),
    text("prompt of nothing", prompt=[]),
    text("suffix", suffix="go"),
    text("n 2, greedy", n=2),
    text("logprobs 99", logprobs=99),
    text("logprobs -1", logprobs=-1),
    text("best_of under n", n=3, best_of=2, temperature=0.9, varies=True),
    text("stream_options a word", stream=True, stream_options="x"),
    text("echo a word", echo="maybe"),
    raw("cut off", b'{"model": "tiny", "messages": ['),
    raw("empty", b""),
    raw("list", b"[]"),
    raw("bad UTF-8", b'{"model":"tiny","messages":[{"role":"user","content":"\xff\xfe"}]}'),
    raw("no content type", PLAIN, content_type=None),
    raw("text", PLAIN, content_type="text/plain"),
)
PATHS = (
    get("/v1/models"),
    get("/v1/models/tiny"),
    get("/health"),
    get("/ping"),
    get("/version"),
    get("/load"),
    get("/is_sleeping"),
    get("/nothing"),
    get("/v1/chat/completions"),
    Case("post /v1/models", "/v1/models", {}),
)  # fmt: skip
ALL = (*CHATS, *TEXTS, *OTHERS, *MISTAKES, *PATHS)
