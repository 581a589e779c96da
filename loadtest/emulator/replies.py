"""Whole answers of vLLM as bytes: chats, completions, embeddings, models. No sockets, no pace.

Field names and their order are those recorded from vLLM 0.32, nulls included.
"""

import base64
import struct

import msgspec

from loadtest.emulator.logprobs import logprobs_object, prompt_logprobs
from loadtest.emulator.refusals import JsonObject
from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.served import EmulatedModel
from loadtest.emulator.text import unary_text
from loadtest.emulator.tokenizer import output_ids, prompt_ids

VERSION = "0.32.0"
FINGERPRINT = f"vllm-{VERSION}-emulated"
DIMENSIONS = 8  # of an emulated embedding


def usage_object(prompt_tokens: int, output_tokens: int) -> JsonObject:
    """OpenAI's `usage`, in vLLM's order of fields."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "completion_tokens": output_tokens,
    }


def prompt_details(generation: GenerationRequest) -> JsonObject | None:
    """vLLM's `prompt_tokens_details`; `None` without a prefix cache and without pictures."""
    cached, images = generation.cached_total, generation.image_tokens
    if cached is None and not images:
        return None
    return {
        "cached_tokens": cached,
        "created_cache_tokens": 0 if generation.api == "chat" else None,
        "multimodal_tokens": images or None,
    }


def tool_id(generation: GenerationRequest, sequence: int) -> str:
    """The id of a choice's call of a tool."""
    return f"chatcmpl-tool-{generation.seed:08x}{sequence:08x}"


def unary_body(generation: GenerationRequest, head: JsonObject) -> bytes:
    """The body of an unary answer. head: id, object, created and model."""
    if generation.api == "embedding":
        return _embeddings_body(generation, head)
    usage = usage_object(generation.prompt_total, generation.output_total)
    value: JsonObject = {
        **head,
        "choices": [_unary_choice(generation, sequence) for sequence in generation.choices],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": {
            **usage,
            "prompt_tokens_details": prompt_details(generation),
            "completion_tokens_details": None,
        },
    }
    if generation.api == "chat":
        value |= {
            "prompt_logprobs": prompt_logprobs(generation, 0),
            "prompt_token_ids": prompt_ids(generation, 0),
            "prompt_text": None,
        }
    value |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
    return msgspec.json.encode(value)


def _unary_choice(generation: GenerationRequest, sequence: int) -> JsonObject:
    text, index = unary_text(generation, sequence), generation.choice(sequence)
    total = generation.output_tokens[sequence]
    end = {
        "logprobs": logprobs_object(generation, sequence, 0, total),
        "finish_reason": generation.finish_reasons[sequence],
        "stop_reason": generation.stop_reason(sequence),
    }
    token_ids = output_ids(generation, sequence, 0, total)
    value: JsonObject
    if generation.api == "chat":
        empty = ("refusal", "annotations", "audio", "function_call")
        message: JsonObject = {"role": "assistant", "content": text, **dict.fromkeys(empty)}
        if generation.called:
            function = {"name": generation.tool, "arguments": text}
            call = {"id": tool_id(generation, sequence), "type": "function", "function": function}
            message |= {"content": "", "tool_calls": [call]}
        message["reasoning"] = None
        value = {"index": index, "message": message, **end, "token_ids": token_ids}
    else:
        if generation.echo is not None:
            text = generation.echo[sequence // generation.per_prompt] + text
        value = {"index": index, "text": text, **end}
        value |= {
            "token_ids": token_ids,
            "prompt_logprobs": prompt_logprobs(generation, sequence),
            "prompt_token_ids": prompt_ids(generation, sequence),
        }
    return {**value, "routed_experts": None}


def _embeddings_body(generation: GenerationRequest, head: JsonObject) -> bytes:
    """Small vectors that follow from a prompt's length and place; floats, or base64 of float32."""
    data = []
    for index, prompt in enumerate(generation.prompt_tokens):
        vector: object = [((prompt + index) * k % 97) / 97 for k in range(1, DIMENSIONS + 1)]
        if generation.base64:
            packed = struct.pack(f"<{DIMENSIONS}f", *vector)  # type: ignore[misc]
            vector = base64.b64encode(packed).decode()
        data.append({"index": index, "object": "embedding", "embedding": vector})
    usage = usage_object(sum(generation.prompt_tokens), 0) | {"prompt_tokens_details": None}
    return msgspec.json.encode({**head, "data": data, "usage": usage})


def models_body(served: EmulatedModel, created: int) -> bytes:
    """The body of `GET /v1/models`: the model under each of its names, and its adapters."""
    permission = {
        "id": "modelperm-emulated",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    rows: list[tuple[str, str, str | None, int | None]] = [
        (name, served.name, None, served.max_model_len) for name in served.names
    ]
    rows += [(name, name, served.name, None) for name in served.loras]
    data = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": root,
            "parent": parent,
            "max_model_len": max_model_len,
            "permission": [permission],
        }
        for name, root, parent, max_model_len in rows
    ]
    return msgspec.json.encode({"object": "list", "data": data})
