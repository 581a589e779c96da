"""An answer as lines of text: what a client can rely on, without what differs from answer to
answer. Two servers answer alike when their lines are the same."""

import difflib
import json
import re
from collections.abc import Iterator, Sequence

from tests.real.wire import Answer

HEADERS = ("content-type", "transfer-encoding", "server", "vary", "allow", "location")
# Values that are compared, and not only their kind.
TOLD = {
    "object", "type", "role", "finish_reason", "stop_reason", "status", "code", "param", "message",
    "owned_by", "parent", "root", "max_model_len", "detail", "id", "version", "reason", "count",
}  # fmt: skip
SAID = {"content", "text", "arguments", "delta", "partial_json"}  # texts that a stream has in parts
MEASURED = ".timings."  # what llama.cpp says of its own pace
NAMED_BY_DATA = {"top_logprobs", "prompt_logprobs"}  # objects whose names are tokens
IDS = re.compile(
    r"(chatcmpl-tool|chatcmpl|cmpl|resp|msg|fc|call|modelperm|embd|rs)([-_])[0-9A-Za-z-]{6,}"
)
DIGITS = re.compile(r"\d+(\.\d+)?")


def lines(answer: Answer, *, exact: bool = False, sets: bool = False) -> list[str]:
    """The answer's lines. exact: with its texts and numbers, without its ids and times. sets: each
    kind of event once: choices that stream together come in any order."""
    found = [f"status {answer.status}"]
    had = ((name, answer.header(name)) for name in HEADERS)
    found += [f"header {name}: {value}" for name, value in had if value is not None]
    if answer.streamed:
        return found + list(_stream(answer, exact, sets))
    try:
        value = json.loads(answer.body) if answer.body else None
    except ValueError:
        found.append(f"text {answer.body[:60]!r}")
        return found
    return found + (list(_flat(value, "body", exact)) if answer.body else ["no body"])


def _stream(answer: Answer, exact: bool, sets: bool) -> Iterator[str]:
    """Events that are alike and follow each other are one: how many tokens an event has depends on
    how busy the engine is. What they say together is told behind them, if it is wanted exactly."""
    if answer.chunks is not None:
        whole = all(chunk.endswith(b"\n\n") for chunk in answer.chunks)
        yield "framing: " + ("chunks end with events" if whole else "chunks cut events")
    seen: list[list[str]] = []
    said: dict[str, str] = {}
    for name, data in answer.events:
        found = [f"event {name or '(no name)'}"]
        try:
            value = json.loads(data)
        except ValueError:
            value, found = None, [*found, f"data {data}"]
        else:
            found += _flat(value, "data", exact=False)
            _join(value, name or "", said)
        if found not in (seen if sets else seen[-1:]):
            yield from found
        seen.append(found)
    if exact:
        yield from (f"said {place}: {text!r}" for place, text in said.items())


def _join(value: object, place: str, said: dict[str, str]) -> None:
    """Add the texts of an event to those before it, and keep the last of its counts."""
    if isinstance(value, list):
        for inner in value:
            index = inner.get("index", "") if isinstance(inner, dict) else ""
            _join(inner, f"{place}[{index}]", said)
    elif isinstance(value, dict):
        for name, inner in value.items():
            where = f"{place}.{name}"
            if isinstance(inner, str) and name in SAID:
                said[where] = said.get(where, "") + inner
            elif name == "usage" and inner is not None:
                said[where] = json.dumps(inner)
            else:
                _join(inner, where, said)


def _flat(value: object, path: str, exact: bool) -> Iterator[str]:
    """A line for each value in a JSON value, in its order."""
    if isinstance(value, dict):
        if not value:
            yield f"{path}: {{}}"
        named = not exact and path.rpartition(".")[2].rstrip("[]") in NAMED_BY_DATA
        before: list[str] = []
        for name, inner in value.items():
            found = list(_flat(inner, f"{path}.{'*' if named else name}", exact))
            if not named or found != before:
                yield from found
            before = found
    elif isinstance(value, list):
        if not value:
            yield f"{path}: []"
        seen: list[list[str]] = []
        for inner in value:
            found = list(_flat(inner, f"{path}[]", exact))
            if exact or found not in seen:
                yield from found
            seen.append(found)
    else:
        exact = exact and MEASURED not in path
        yield f"{path}: {_leaf(value, path.rpartition('.')[2].rstrip('[]'), exact)}"


def _leaf(value: object, name: str, exact: bool) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value) if exact or value is None or name in TOLD else "bool"
    if isinstance(value, int | float):
        if name in ("created", "created_at"):
            return "time"
        if exact:
            return f"{value:.2f}"  # the order of sums moves the last digits
        return str(value) if name in ("code", "max_model_len") else "number"
    text = IDS.sub(r"\1\2ID", str(value))
    if exact:
        return repr(text)
    if name not in TOLD:
        return "text" if text else "no text"
    return repr(DIGITS.sub("N", text))


def difference(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """What only one of them has: lines of the left after `- `, of the right after `+ `."""
    found = difflib.SequenceMatcher(a=left, b=right, autojunk=False).get_opcodes()
    told: list[str] = []
    for kind, i, j, m, n in found:
        if kind != "equal":
            told += [f"- {line}" for line in left[i:j]] + [f"+ {line}" for line in right[m:n]]
    return told
