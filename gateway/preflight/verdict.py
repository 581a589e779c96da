"""Compares what a backend answered with what the configuration says of it. No I/O."""

import difflib
import re
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.config.upstream import Upstream
from gateway.preflight.limits import whole

LISTED = 5  # models that a line names
OWNER = "cuvee"  # what a gateway answers as `owned_by`
RELEASE = re.compile(r"\D*(\d+)\.(\d+)", re.ASCII)  # of `0.11.2`, `v0.11.2rc1`: 0 and 11

Kind = Literal["ok", "mismatch", "unknown"]


class Expected(NamedTuple):
    """One configured backend. model: the engine's own name for it, and adapters: for those of its
    pool. context: tokens, by the pool's profile. health: path of the probe. engine_version: for
    which the profile was fitted, `None` if it does not say; version: path where the engine says its
    own. upstream: how it is spoken to."""

    pool: str
    url: str
    model: str
    context: int
    health: str
    engine_version: str | None = None
    version: str = "/version"
    adapters: tuple[str, ...] = ()
    upstream: Upstream = Upstream()


class HttpAnswer(NamedTuple):
    """The answer to one GET. status: 0 if there was none; `fault` then says why."""

    status: int
    body: bytes = b""
    fault: str = ""


class Verdict(NamedTuple):
    """What is to be said of one backend, in words. kind: `mismatch`, if it serves and is another
    than the configuration says; `unknown`, if it could not be compared. warning: what else is to
    be known of it, or empty. other: whether it serves another model, so that no request should go
    there. context: that it tells, tokens. missing: names of adapters that it should have."""

    backend: Expected
    kind: Kind
    text: str
    warning: str = ""
    other: bool = False
    context: int | None = None
    missing: tuple[str, ...] = ()


def compare(
    backend: Expected,
    health: HttpAnswer,
    models: HttpAnswer,
    version: HttpAnswer | None = None,
    *,
    keyed: bool,
) -> Verdict:
    """The verdict on one backend by its answers to its health path, to `/v1/models`, and to the
    path of its version, if it was asked for it. keyed: whether it was asked with a key.
    """
    found = _compare(backend, health, models, keyed)
    warning = "" if version is None else _other_version(backend.engine_version, version)
    return found._replace(warning=warning)


def _compare(backend: Expected, health: HttpAnswer, models: HttpAnswer, keyed: bool) -> Verdict:
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
    entries = listed(models.body)
    if entries is None:
        return Verdict(backend, "unknown", "/v1/models answered no list of models")
    if any(entry.get("owned_by") == OWNER for entry in entries.values()):
        return Verdict(backend, "mismatch", "is a Cuvée gateway, not an engine")
    if backend.model not in entries:
        text = _other_models(backend.model, list(entries))
        return Verdict(backend, "mismatch", text, other=bool(entries))
    missing = tuple(name for name in backend.adapters if name not in entries)
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        text = f"does not have {names}, which `adapters` of its pool names"
        context = whole(_told_context(entries[backend.model]))
        return Verdict(backend, "mismatch", text, context=context, missing=missing)
    return _context(backend, _told_context(entries[backend.model]))


def _told_context(entry: dict[str, Any]) -> object:
    """What an entry of `/v1/models` says of the longest context: vLLM and SGLang as
    `max_model_len`, llama.cpp as `n_ctx` of its `meta`, for each of its slots."""
    meta = entry.get("meta")
    told = meta.get("n_ctx") if isinstance(meta, dict) else None
    return entry.get("max_model_len", told)


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


def _other_version(fitted: str | None, answer: HttpAnswer) -> str:
    """What to say of an engine of another release than the profile was fitted for; empty if it is
    the same, or cannot be told."""
    try:
        reply = msgspec.json.decode(answer.body) if answer.status == 200 else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    told = reply.get("version") if isinstance(reply, dict) else None
    releases = [RELEASE.match(text) for text in (fitted, told) if isinstance(text, str)]
    if len(releases) < 2 or None in releases:
        return ""
    if len({match.groups() for match in releases if match is not None}) == 1:
        return ""
    return (
        f"runs version {told}, and its profile was fitted for {fitted}: plans may be off until the "
        "pace of its requests is known (engine_version of the profile)"
    )


def listed(body: bytes) -> dict[str, dict[str, Any]] | None:
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
        "(--served-model-name), or use the engine's as `served_name` of the pool"
    )


def _context(backend: Expected, told: object) -> Verdict:
    context = whole(told)
    if context is None:
        text = f"serves `{backend.model}`; tells no context length"
        return Verdict(backend, "ok", text)
    if context < backend.context:
        text = (
            f"its context is {context} tokens and the profile's {backend.context}: the gateway "
            f"plans with {context} (max_model_len of both)"
        )
        return Verdict(backend, "mismatch", text, context=context)
    text = f"serves `{backend.model}`, context {context} tokens"
    if context > backend.context:
        text += f"; the plan uses {backend.context}, as the profile says"
    return Verdict(backend, "ok", text, context=context)
