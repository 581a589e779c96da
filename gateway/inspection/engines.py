"""Whether the engines are what the configuration says: what `cuvee check --connect` compares, and
their limits, kinds and metrics beside it."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from gateway.config.load import Loaded
from gateway.inspection.examined import CheckGroup, Examined
from gateway.plain_http import PlainHttp, PlainHttpFault
from gateway.preflight.inquiry import ask
from gateway.preflight.introduction import PREFIXES
from gateway.preflight.limits import limits, path
from gateway.preflight.verdict import Expected, Verdict
from gateway.proxy.http.pool import ConnectionPools
from planner.engine.limits import EngineLimits

GROUP = CheckGroup("engines", "docs/configuration.md")
METRICS = "/metrics"
LESS_KV = 0.9  # of what the profile expects
CLOCKS = 3  # engines whose clocks are asked for
KEYS = ("asks for a key", "refuses the key")


class Met(NamedTuple):
    """One engine. told: its limits. engine: by its metrics; `None`: they do not say."""

    verdict: Verdict
    told: EngineLimits
    engine: str | None
    metrics: bool


async def meet(
    backends: Sequence[Expected], *, key: str | None, timeout_s: float
) -> tuple[Met, ...]:
    """Ask all engines at once. key: for pools that have none of their own."""
    async with ConnectionPools(connect_timeout_s=2 * timeout_s) as pools:
        asked = (_meet(pools, one, key, timeout_s) for one in backends)
        return tuple(await asyncio.gather(*asked))


async def dates(backends: Sequence[Expected], timeout_s: float) -> tuple[float, dict[str, str]]:
    """The `date` headers of some engines by their URLs, and the time here when they came."""
    found: dict[str, str] = {}
    for one in backends[:CLOCKS]:
        if one.url.startswith("http://"):
            with suppress(PlainHttpFault):
                answer = await PlainHttp(one.url).whole(
                    "GET", one.health, longest_s=timeout_s, most_bytes=1
                )
                if text := answer.headers.get("date"):
                    found[one.url] = text
                    break
    return time.time(), found


def of_engines(met: Sequence[Met], loaded: Loaded) -> Iterator[Examined]:
    """What is to be said of them, kind by kind: a line for each that is not as it should be, or one
    for all."""
    if not met:
        return
    yield from _reachable(met)
    known = [one for one in met if one.verdict.kind != "unknown"]
    if not known:
        return
    yield from _models(known)
    yield from _adapters(known)
    yield from _contexts(known)
    yield from _memory(known, loaded)
    yield from _versions(known)
    yield from _kinds(known)
    yield from _metrics(known)


async def _meet(pools: ConnectionPools, one: Expected, key: str | None, timeout_s: float) -> Met:
    engine = one.upstream.engine
    paths = (path(engine), METRICS)
    verdict, answers = await ask(pools, one, key=key, timeout_s=timeout_s, extra=paths)
    own, page = answers[-2:]
    told = EngineLimits(context=verdict.context)
    if own.status == 200:
        told = told.least(limits(engine, own.body))
    shown = b"\n" + page.body if page.status == 200 else b""
    kind = next((name for name, prefix in PREFIXES.items() if prefix in shown), None)
    return Met(verdict, told, kind, kind is not None)


def _reachable(met: Sequence[Met]) -> Iterator[Examined]:
    away = [one for one in met if one.verdict.kind == "unknown"]
    for one in away:
        hint = "start it, or correct its URL; `curl URL/v1/models` from this machine"
        if one.verdict.text.startswith(KEYS):
            hint = "`api_key_file` or `api_key_env` of its pool; --api-key for this command"
        yield GROUP.error("reachable", f"{_where(one)}: {one.verdict.text}", hint, "#poolsname")
    if not away:
        yield GROUP.fine("reachable", f"{len(met)} of {len(met)} are well")


def _models(met: Sequence[Met]) -> Iterator[Examined]:
    odd = [one for one in met if _is_other(one.verdict)]
    for one in odd:
        hint = "it gets no requests until it serves the right one"
        if not one.verdict.other:
            hint = "it gets requests all the same: load the model, or correct its URL"
        yield GROUP.error("model", f"{_where(one)}: {one.verdict.text}", hint, "#poolsname")
    if not odd:
        yield GROUP.fine("model", "each serves what its pool says")


def _is_other(verdict: Verdict) -> bool:
    """Whether it does not serve the model at all: another one, none, or it is a gateway. One that
    does tells its context, or lacks adapters."""
    return verdict.kind == "mismatch" and verdict.context is None and not verdict.missing


def _adapters(met: Sequence[Met]) -> Iterator[Examined]:
    for one in met:
        if one.verdict.missing:
            yield GROUP.warning(
                "adapters", f"{_where(one)}: {one.verdict.text}",
                "load them, or leave them out of `adapters` of the pool", "#poolsname",
            )  # fmt: skip


def _contexts(met: Sequence[Met]) -> Iterator[Examined]:
    fine = True
    for one in met:
        context, profile = one.told.context, one.verdict.backend.context
        if context is not None and context < profile:
            fine = False
            yield GROUP.warning(
                "context", f"{_where(one)}: {context} tokens, and {profile} in its profile",
                "the gateway plans with the shorter one: --max-model-len of the engine, or "
                "`max_model_len` of a profile", "docs/profiles.md#the-format",
            )  # fmt: skip
        elif context is not None and context > profile:
            fine = False
            yield GROUP.note(
                "context", f"{_where(one)}: {context} tokens, of which the profile uses {profile}",
                "`max_model_len` of a profile, to use all", "docs/profiles.md#the-format",
            )  # fmt: skip
    if fine:
        yield GROUP.fine("context", "each is as long as its profile says")


def _memory(met: Sequence[Met], loaded: Loaded) -> Iterator[Examined]:
    capacity = {pool.name: pool.profile.kv_capacity for pool in loaded.pools}
    less = [
        (one, tokens, capacity[one.verdict.backend.pool])
        for one in met
        if (tokens := one.told.kv_tokens) is not None
        and tokens < LESS_KV * capacity.get(one.verdict.backend.pool, 0)
    ]
    for one, tokens, expected in less:
        yield GROUP.warning(
            "KV memory", f"{_where(one)}: {tokens:,} tokens fit, and {expected:,} by its profile",
            "the gateway plans with what fits; is the GPU that of the profile, and does the engine "
            "have it alone?", "docs/profiles.md#the-format",
        )  # fmt: skip
    if not less and any(one.told.kv_tokens for one in met):
        yield GROUP.fine("KV memory", "as much fits as the profiles say")


def _versions(met: Sequence[Met]) -> Iterator[Examined]:
    for text in dict.fromkeys(
        f"{_where(m)}: {m.verdict.warning}" for m in met if m.verdict.warning
    ):
        hint = "measure the profile anew, or trust the pace that the gateway observes"
        yield GROUP.warning("version", text, hint, "docs/profiles.md#measuring-a-running-backend")


def _kinds(met: Sequence[Met]) -> Iterator[Examined]:
    for one in met:
        said = one.verdict.backend.upstream.engine
        if said is not None and one.engine is not None and said != one.engine:
            yield GROUP.warning(
                "engine", f"{_where(one)}: it shows metrics of {one.engine}, `engine` says {said}",
                f"engine: {one.engine}: health, errors and metrics differ", "#poolsname",
            )  # fmt: skip


def _metrics(met: Sequence[Met]) -> Iterator[Examined]:
    without = [one for one in met if not one.metrics]
    if without:
        yield GROUP.note(
            "metrics", f"{_where(without[0])} shows none" + _more(len(without) - 1),
            "--enable-metrics of SGLang: without them load of other clients is not seen",
            "docs/operations.md#other-clients-of-the-engines",
        )  # fmt: skip
    else:
        yield GROUP.fine("metrics", "each shows its own")


def _where(one: Met) -> str:
    return f"{one.verdict.backend.pool} {one.verdict.backend.url}"


def _more(count: int) -> str:
    return f", nor do {count} others" if count else ""
