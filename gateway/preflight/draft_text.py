"""Writes the parts of a first configuration as a commented YAML file. Pure text."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.preflight.draft import DraftParts, DraftPool
from planner.document import shown

KEY_ENVIRONMENT = "CUVEE_API_KEY"


def text(parts: DraftParts, *, schema: str | None, keyed: bool) -> str:
    """The file. schema: where editors find the schema of its keys. keyed: whether the engines were
    asked with a key, which stands in the environment then."""
    return "\n".join(_lines(parts, schema, keyed)) + "\n"


def _lines(parts: DraftParts, schema: str | None, keyed: bool) -> Iterator[str]:
    if schema is not None:
        yield f"# yaml-language-server: $schema={schema}"
    yield "# Made by `cuvee init`. docs/configuration.md explains every key; `cuvee check` tells"
    yield "# mistakes, with --connect it compares with the engines, `cuvee doctor` looks at all."
    yield ""
    yield "models:"
    for model, slo in parts.promises.items():
        yield f"  {_word(model)}:  # the name that clients send"
        yield "    # The promise: seconds to the first token, seconds for each further one, and the"
        yield "    # share of the requests for which both hold. Plans follow from it: adapt it."
        yield (
            f"    slo: {{ttft_s: {slo.ttft_s:g}, tpot_s: {slo.tpot_s:g}, "
            f"attainment: {slo.attainment:g}}}"
        )
        yield "    # classes: {batch: {ttft_s: 60, tpot_s: 1}}  # by the header x-cuvee-slo-class"
        if adapters := parts.adapters.get(model):
            yield f"    adapters: [{', '.join(map(_word, adapters))}]"
    yield ""
    if parts.prices is not None:
        yield "# US dollars for each GPU and hour: a list that ships, or a file of your own."
        yield f"prices: {_word(parts.prices)}"
        yield ""
    yield "pools:"
    for pool in parts.pools:
        yield from _pool(pool, parts.adapters.get(pool.model, ()), keyed)
    yield ""
    yield "gateway:"
    yield f"  port: {parts.port}  # clients"
    yield f"  admin_port: {parts.admin_port}  # metrics, plan and page, on this machine only"
    yield "  # workers: 2  # processes that serve, about one for each core"
    yield "  # journal: {path: journal.jsonl}  # every decision and its cause: `cuvee history`"


def _pool(pool: DraftPool, adapters: Sequence[str], keyed: bool) -> Iterator[str]:
    yield f"  {_word(pool.name)}:"
    yield f"    # {_said(pool)}"
    yield f"    model: {_word(pool.model)}"
    origin = "measured" if pool.built.origin == "measured" else "from a formula"
    yield f"    profile: {_word(pool.profile)}  # how fast it is, {origin}: docs/profiles.md"
    if pool.usd is not None:
        yield f"    usd_per_hour: {pool.usd:g}  # ASSUMED: no price list has this GPU; write yours"
    if pool.told.engine is not None:
        yield f"    engine: {pool.told.engine}"
    own = {name for one in pool.engines for name in one.told.adapters}
    if own != set(adapters):
        yield f"    adapters: {{{', '.join(f'{_word(name)}: null' for name in sorted(own))}}}"
    if keyed:
        yield f"    api_key_env: {KEY_ENVIRONMENT}  # the key that the engines ask for"
    sections = [one.kubernetes for one in pool.engines if one.kubernetes]
    urls = [one.told.url for one in pool.engines if not one.kubernetes]
    if urls:
        yield "    backends:"
        yield from (f"      - {_word(url)}" for url in urls)
    if sections:
        yield "    discover:"
        yield "      kubernetes:"
        yield from (f"        {key}: {_value(value)}" for key, value in sections[0].items())


def _said(pool: DraftPool) -> str:
    """What the engines of a pool said, in one line: a comment ends with it."""
    told = pool.told
    engine = " ".join(part for part in (told.engine or "an engine", told.version) if part)
    words = [f"{shown(engine)} on {pool.built.gpu_label}"]
    if told.weights is not None and told.weights != told.model:
        words.append(f"weights {shown(told.weights)}")
    if told.limits.context is not None:
        words.append(f"context {told.limits.context}")
    if told.limits.kv_tokens is not None:
        words.append(f"{told.limits.kv_tokens} tokens of KV")
    return ", ".join(words)


def _value(value: Any) -> str:
    return _word(value) if isinstance(value, str) else json.dumps(value)


def _word(value: str) -> str:
    """A text as YAML reads it: in quotes, unless it is a plain name or path."""
    plain = value[:1].isalpha() and all(c.isalnum() or c in "-_./" for c in value)
    known = value.casefold() in ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
    return value if plain and value.isascii() and not known else json.dumps(value)
