"""What the answer of a webhook means: accepted, not yet, or not at all. Sends nothing."""

from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from gateway.actuation.actuator import ScaleOrder
from gateway.plain_http import PlainAnswer

MOST_CHARS = 200
# Another try may help; of other 4xx it is of no use, says RFC 9110, section 15.5.
PASSING = frozenset((408, 409, 425, 429))
LASTING = frozenset((501, 505))
MEANINGS = {
    400: "does not take this wish",
    401: "does not accept the signature",
    403: "does not allow it",
    404: "has nothing at this URL",
    405: "takes no POST at this URL",
    408: "was too slow",
    409: "still works on this wish",
    410: "has nothing at this URL any more",
    413: "finds the wish too long",
    422: "does not take this wish",
    429: "asks to wait",
    502: "is not reached by what stands before it",
    503: "cannot now",
    504: "is not reached by what stands before it",
}


class Objection(NamedTuple):
    """Why a wish was not accepted. again: it may be sent again, after `wait_s` if that is known.
    final: see ActuationError."""

    why: str
    again: bool = False
    final: bool = False
    wait_s: float | None = None


def objection(answer: PlainAnswer, order: ScaleOrder) -> Objection | None:
    """What an answer has against a wish; `None`: it was accepted."""
    status = answer.status
    if 200 <= status < 300:
        return _lie(answer, order)
    if 300 <= status < 400:
        place = _short(answer.headers.get("location", "elsewhere"))
        why = f"answers {status} to {place}: redirects are not followed, name that URL"
        return Objection(why, final=True)
    said = _object(answer.body) or {}
    words = _words(answer, said)
    why = f"{MEANINGS.get(status, 'failed')} ({status}){words}"
    if said.get("final") is True:
        return Objection(why, final=True)
    if (status >= 500 and status not in LASTING) or status in PASSING:
        return Objection(why, again=True, wait_s=_wait_s(answer))
    return Objection(why, final=True)


def _lie(answer: PlainAnswer, order: ScaleOrder) -> Objection | None:
    """What a good status hides: whoever answers may be a page, or have done something else."""
    status, where = answer.status, "is this the right URL?"
    if answer.cut:
        text = f"answers {status} with more than {len(answer.body) >> 10} KiB: {where}"
        return Objection(text)
    if _is_page(answer):
        return Objection(f"answers {status} with a page of HTML: {where}")
    body = answer.body.strip()
    if not body or (not body.startswith((b"{", b"[")) and "json" not in _kind(answer)):
        return None  # nothing, or a word
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return Objection(f"answers {status} with what is no JSON{_words(answer, {})}")
    if not isinstance(said, dict):
        return None  # frameworks answer `null` where nothing is said
    return _contradiction(said, order, _words(answer, said))


def _contradiction(said: dict[str, Any], order: ScaleOrder, words: str) -> Objection | None:
    """Where an accepting answer repeats the wish, it must be this one."""
    for name, own in (("key", order.key), ("pool", order.pool)):
        if name in said and said[name] != own:
            text = f"answers for another {name}: {_short(said[name])} instead of {own}"
            return Objection(text)
    count = said.get("backends", order.backends)
    if count == order.backends:
        return None
    if isinstance(count, int) and 0 <= count < order.backends:
        return Objection(f"accepts {count} of {order.backends} backends{words}", final=True)
    return Objection(f"answers {_short(count)} backends where {order.backends} are wished{words}")


def _words(answer: PlainAnswer, said: dict[str, Any]) -> str:
    """The end of a line: what the answer says of it, in its own words."""
    for name in ("why", "message", "error", "detail"):
        if isinstance(said.get(name), str) and said[name].strip():
            return f": {_short(said[name])}"
    if _is_page(answer):
        return ": a page of HTML"
    lines = answer.body.decode(errors="replace").strip().splitlines()
    return f": {_short(lines[0])}" if lines else ""


def _short(value: object) -> str:
    """A value on one line, as long as a line is read."""
    lines = str(value).strip().splitlines() or [""]
    text = "".join(c if c.isprintable() else "\ufffd" for c in lines[0])
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}…"


def _object(body: bytes) -> dict[str, Any] | None:
    with suppress(msgspec.DecodeError, RecursionError):
        return msgspec.json.decode(body, type=dict[str, Any])
    return None


def _kind(answer: PlainAnswer) -> str:
    return answer.headers.get("content-type", "").casefold()


def _is_page(answer: PlainAnswer) -> bool:
    return "text/html" in _kind(answer) or answer.body.lstrip().startswith(b"<")


def _wait_s(answer: PlainAnswer) -> float | None:
    """Seconds that the answer asks to wait; a date is as good as nothing."""
    with suppress(ValueError):
        wait_s = float(answer.headers.get("retry-after", ""))
        return wait_s if 0 <= wait_s < float("inf") else None
    return None
