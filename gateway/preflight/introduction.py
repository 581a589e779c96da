"""Asks engines that nothing is known of what they are: engine, version, models and limits.

Owns which paths are asked, and what the answers mean together. No engine tells its GPU.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.config.upstream import Upstream
from gateway.preflight.inquiry import get
from gateway.preflight.limits import limits, path, whole
from gateway.preflight.verdict import OWNER, HttpAnswer, listed
from gateway.proxy.engines import DIALECTS, VLLM
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.targets import tls_files
from planner.engine.limits import EngineLimits

MODELS = "/v1/models"
METRICS = "/metrics"
PREFIXES = {"vllm": b"\nvllm:", "sglang": b"\nsglang:", "tgi": b"\ntgi_"}  # of their metrics


class Introduced(NamedTuple):
    """What one engine says of itself; `None` is unknown.

    engine: by the name of its dialect. model: the name that it serves its model under. weights:
    where it says it has them from. adapters: names of those that are loaded. fault: why nothing is
    known of it; all else is empty then.
    """

    url: str
    engine: str | None = None
    version: str | None = None
    model: str = ""
    weights: str | None = None
    adapters: tuple[str, ...] = ()
    limits: EngineLimits = EngineLimits()
    fault: str | None = None


async def introduce(
    urls: Sequence[str], *, key: str | None, timeout_s: float
) -> tuple[Introduced, ...]:
    """What engines say of themselves, in the order of their URLs. All are asked at once.

    key: sent as `Authorization: Bearer`. timeout_s: until each answer.
    """
    async with ConnectionPools(connect_timeout_s=2 * timeout_s) as pools:
        asked = (_introduce(pools, url, key, timeout_s) for url in urls)
        return tuple(await asyncio.gather(*asked))


async def _introduce(
    pools: ConnectionPools, url: str, key: str | None, timeout_s: float
) -> Introduced:
    lines = b"" if key is None else f"authorization: Bearer {key}\r\n".encode()
    connections = pools.pool(url, tls=tls_files(Upstream()))
    versions = dict.fromkeys(dialect.version for dialect in DIALECTS.values())
    paths = (MODELS, METRICS, *versions)
    found = await asyncio.gather(*(get(connections, one, lines, timeout_s) for one in paths))
    return introduced(url, dict(zip(paths, found, strict=True)))


def introduced(url: str, answers: dict[str, HttpAnswer]) -> Introduced:
    """What the answers of an engine say, by path."""
    models = answers[MODELS]
    if fault := _fault(models):
        return Introduced(url, fault=fault)
    entries = listed(models.body)
    if not entries:
        what = "no list of models" if entries is None else "an empty list of models"
        return Introduced(url, fault=f"{MODELS} answered {what}")
    if any(entry.get("owned_by") == OWNER for entry in entries.values()):
        return Introduced(url, fault="is a Cuvée gateway, not an engine")
    # vLLM lists its adapters beside the model that they belong to, which is their `parent`.
    adapters = tuple(name for name, entry in entries.items() if entry.get("parent"))
    model = next((name for name in entries if name not in adapters), next(iter(entries)))
    entry = entries[model]
    engine = _engine(answers, entry)
    own = EngineLimits(context=whole(entry.get("max_model_len")))
    told = answers.get(path(engine))
    if told is not None and told.status == 200:
        own = own.least(limits(engine, told.body))
    return Introduced(
        url=url,
        engine=engine,
        version=_version(engine, answers),
        model=model,
        weights=_text(entry.get("root")) or _weights(engine, answers),
        adapters=tuple(name for name in adapters if name != model),
        limits=own,
    )


def _fault(models: HttpAnswer) -> str | None:
    if models.status == 200:
        return None
    if models.status in (401, 403):
        hint = "CUVEE_API_KEY, or --api-key of `cuvee init`"  # `cuvee serve` has no such option
        return f"{MODELS} answered {models.status}: it asks for a key ({hint})"
    return models.fault or f"{MODELS} answered {models.status}"


def _engine(answers: dict[str, HttpAnswer], entry: dict[str, Any]) -> str | None:
    """The engine by the names of its metrics, by what owns its models, or by who answers where."""
    page = answers[METRICS]
    if page.status == 200:
        for engine, prefix in PREFIXES.items():
            if prefix in b"\n" + page.body:
                return engine
    owner = str(entry.get("owned_by", "")).casefold()
    if owner in DIALECTS:
        return owner
    others = [d for d in DIALECTS.values() if d is not VLLM]
    return next((d.name for d in others if "version" in _object(answers[d.version])), None)


def _version(engine: str | None, answers: dict[str, HttpAnswer]) -> str | None:
    dialect = DIALECTS.get(engine or "", VLLM)
    return _text(_object(answers[dialect.version]).get("version"))


def _weights(engine: str | None, answers: dict[str, HttpAnswer]) -> str | None:
    """Where SGLang and TGI have the weights from."""
    told = _object(answers[DIALECTS.get(engine or "", VLLM).version])
    return _text(told.get("model_path")) or _text(told.get("model_id"))


def _object(answer: HttpAnswer) -> dict[str, Any]:
    """The object that an answer has; an empty one for any other answer."""
    try:
        told = msgspec.json.decode(answer.body) if answer.status == 200 else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return told if isinstance(told, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
