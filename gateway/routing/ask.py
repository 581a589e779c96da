"""What a client asks for: the few fields of a request body that routing needs, decoded once.

The body itself is forwarded as received. Knows no estimate, no table and no backend.
"""

import msgspec

from gateway.errors import BadRequest

_NOTHING = msgspec.Raw(b"")
USAGE = b'"stream_options":{"include_usage":true},'


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Fields(msgspec.Struct):
    """Unknown fields are skipped without being built; prompts stay raw bytes."""

    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: _StreamOptions | None = None
    messages: msgspec.Raw = _NOTHING
    prompt: msgspec.Raw = _NOTHING
    input: msgspec.Raw = _NOTHING


_DECODER = msgspec.json.Decoder(_Fields, strict=False)  # as lax as the engines: "7" is 7
_PROMPT = {"chat": "messages", "completions": "prompt", "embeddings": "input"}


class Ask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, as far as routing cares.

    route: chat, completions or embeddings. prompt_bytes: the prompt's length in the body.
    prompt_tokens: exact where the prompt came as token ids, else `None`. max_tokens: the client's
    cap on output tokens, `None` without one. usage: whether a stream will end with its usage. bare:
    whether the client says nothing of stream options.
    """

    route: str
    model: str | None
    stream: bool
    prompt_bytes: int
    prompt_tokens: int | None
    max_tokens: int | None
    usage: bool
    bare: bool = False


def read(body: bytes, route: str) -> Ask:
    """Reads a body. Raises BadRequest when it is not a JSON object with fields of the right types.

    A missing prompt is left to the backend, whose message is better than ours could be.
    """
    try:
        fields = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        raise BadRequest(text, param=where.rstrip("`") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    prompt: msgspec.Raw = getattr(fields, _PROMPT[route])
    cap = fields.max_completion_tokens or fields.max_tokens
    options = fields.stream_options
    return Ask(
        route=route,
        model=fields.model,
        stream=bool(fields.stream),
        prompt_bytes=len(prompt),
        prompt_tokens=None if route == "chat" else _token_ids(bytes(prompt)),
        max_tokens=cap if cap is not None and cap > 0 else None,
        usage=bool(options and options.include_usage),
        bare=options is None and route != "embeddings",
    )


def usage_asked(body: bytes) -> bytes | None:
    """A body that asks for the usage of its stream too; `None` if it is an empty object.

    Spliced in as the first key: should the client say it too after all, the last one counts.
    """
    start = body.find(b"{") + 1
    if body[start:].lstrip()[:1] in (b"}", b""):
        return None
    return body[:start] + USAGE + body[start:]


def _token_ids(prompt: bytes) -> int | None:
    """How many token ids a raw prompt holds, `[1, 2]` or `[[1, 2], [3]]`; `None` if it is text."""
    inner = prompt.lstrip(b"[ \t\r\n")
    if not prompt.startswith(b"[") or not inner[:1].isdigit():
        return None
    return prompt.count(b",") + 1
