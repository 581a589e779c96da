"""Compares what a backend answered with what the configuration says of it. No I/O."""

import difflib
from typing import Any, Literal, NamedTuple

import msgspec

LISTED = 5  # models that a line names
OWNER = "cuvee"  # what a gateway answers as `owned_by`

Kind = Literal["ok", "mismatch", "unknown"]


class Expected(NamedTuple):
    """One configured backend. context: tokens, by the pool's profile. health: path of the probe."""

    pool: str
    url: str
    model: str
    context: int
    health: str


class HttpAnswer(NamedTuple):
    """The answer to one GET. status: 0 if there was none; `fault` then says why."""

    status: int
    body: bytes = b""
    fault: str = ""


class Verdict(NamedTuple):
    """What is to be said of one backend, in words. kind: `mismatch`, if it serves and is another
    than the configuration says; `unknown`, if it could not be compared."""

    backend: Expected
    kind: Kind
    text: str


def compare(backend: Expected, health: HttpAnswer, models: HttpAnswer, *, keyed: bool) -> Verdict:
    """The verdict on one backend by its answers to its health path and to `/v1/models`.

    keyed: whether it was asked with a key.
    """
    faults = [
        fault
        for fault in (
            _unwell(backend.health, health, keyed),
            _unwell("/v1/models", models, keyed),
        )
        if fault is not None
    ]
    if faults:
        return Verdict(backend, "unknown", "; ".join(dict.fromkeys(faults)))
    listed = _listed(models.body)
    if listed is None:
        return Verdict(backend, "unknown", "/v1/models answered no list of models")
    if any(entry.get("owned_by") == OWNER for entry in listed.values()):
        return Verdict(backend, "mismatch", "is a Cuvée gateway, not an engine")
    if backend.model not in listed:
        return Verdict(backend, "mismatch", _other_models(backend.model, list(listed)))
    return _context(backend, listed[backend.model].get("max_model_len"))


def _unwell(path: str, answer: HttpAnswer, keyed: bool) -> str | None:
    """Why an answer says nothing about the models, if it does not."""
    if answer.status == 200:
        return None
    if answer.status == 0:
        return answer.fault
    if answer.status in (401, 403):
        if keyed:
            return f"refuses the key: {path} answered {answer.status}"
        return f"asks for a key: {path} answered {answer.status}"
    return f"{path} answered {answer.status}"


def _listed(body: bytes) -> dict[str, dict[str, Any]] | None:
    """The entries of an OpenAI list of models by their ids; `None` if it is none."""
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    entries = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(entries, list):
        return None
    return {str(e["id"]): e for e in entries if isinstance(e, dict) and "id" in e}


def _other_models(model: str, listed: list[str]) -> str:
    near = difflib.get_close_matches(model, listed, LISTED, 0.0)
    names = ", ".join(f"`{name}`" for name in near or listed[:LISTED]) or "none"
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return (
        f"does not serve `{model}`, but {names}{more}: give the engine that name "
        "(--served-model-name), or use the engine's in `models`"
    )


def _context(backend: Expected, told: object) -> Verdict:
    if not isinstance(told, int):
        text = f"serves `{backend.model}`; tells no context length"
        return Verdict(backend, "ok", text)
    if told < backend.context:
        text = (
            f"its context is {told} tokens and the profile's {backend.context}: it would refuse "
            "what is planned for it (max_model_len of both)"
        )
        return Verdict(backend, "mismatch", text)
    text = f"serves `{backend.model}`, context {told} tokens"
    if told > backend.context:
        text += f"; the plan uses {backend.context}, as the profile says"
    return Verdict(backend, "ok", text)
