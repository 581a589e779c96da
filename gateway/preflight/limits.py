"""Reads an engine's limits from what it answers. No I/O.

vLLM has its context in `/v1/models` and its KV cache in `/metrics`; SGLang and TGI have all in one
object.
"""

import re
from typing import Any

import msgspec

from planner.engine.limits import EngineLimits

CACHE = re.compile(rb"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
LABEL = re.compile(rb'(\w+)="(\d+)"')
# The path that has them beside `/v1/models`, by engine; where the engine is not known, vLLM's.
PATHS = {"sglang": "/get_server_info", "tgi": "/info"}
VLLM = "/metrics"


def path(engine: str | None) -> str:
    """Where an engine tells its limits."""
    return PATHS.get(engine or "", VLLM)


def limits(engine: str | None, body: bytes) -> EngineLimits:
    """What an engine tells there; nothing where it cannot be read."""
    if engine not in PATHS:
        return _of_metrics(body)
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return EngineLimits()
    if not isinstance(told, dict):
        return EngineLimits()
    if engine == "tgi":
        return EngineLimits(
            context=whole(told.get("max_total_tokens")),
            kv_tokens=whole(told.get("max_batch_total_tokens")),
        )
    states = told.get("internal_states")
    if isinstance(states, list) and states and isinstance(states[0], dict):
        told = states[0] | told
    return EngineLimits(
        context=whole(told.get("context_length")),
        kv_tokens=whole(told.get("max_total_num_tokens")),
        sequences=whole(told.get("max_running_requests")),
    )


def whole(value: Any) -> int | None:
    """A limit; `None` for anything else than a positive whole number."""
    return value if type(value) is int and value > 0 else None


def _of_metrics(body: bytes) -> EngineLimits:
    line = CACHE.search(body)
    if line is None:
        return EngineLimits()
    labels = {name: int(value) for name, value in LABEL.findall(line[1])}
    tokens = labels.get(b"kv_cache_size_tokens")
    if not tokens:
        tokens = labels.get(b"num_gpu_blocks", 0) * labels.get(b"block_size", 0)
    return EngineLimits(kv_tokens=tokens or None)
