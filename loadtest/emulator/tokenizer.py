"""The ids of the emulated tokenizer's tokens, and what `/tokenize` and `/detokenize` answer.

Knows no engine.
"""

import zlib

from loadtest.emulator import prompts
from loadtest.emulator.refusals import (
    JsonObject,
    SchemaError,
    validation_error,
    validation_errors,
)
from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.sampling import VOCABULARY
from loadtest.emulator.served import EmulatedModel
from loadtest.emulator.text import token_text


def tokenize_answer(body: JsonObject, served: EmulatedModel) -> JsonObject:
    """The answer of `/tokenize`. A word's id is its checksum; a template token has id 1."""
    served.answering(body)
    if "messages" in body:
        (words,) = prompts.chat_prompt(body, served)
    elif isinstance(body.get("prompt"), str):
        words = body["prompt"].split()
    else:
        # A body is one of two kinds, and lacks what either needs.
        places = ("body.prompt", "body.messages")
        raise validation_errors([SchemaError("missing", p, "Field required", body) for p in places])
    return {
        "count": len(words),
        "max_model_len": served.max_model_len,
        "tokens": [token_id(word) for word in words],
        "token_strs": words if body.get("return_token_strs") else None,
    }


def detokenize_answer(
    body: JsonObject, served: EmulatedModel, words: tuple[str, ...]
) -> JsonObject:
    """The answer of `/detokenize`: a checksum leads back only to the words that the model says."""
    served.answering(body)
    if not isinstance(body.get("tokens"), list):
        raise validation_error("missing", "body.tokens", "Field required", body)
    known = {token_id(word): word for word in words}
    return {"prompt": " ".join(known.get(token, f"<{token}>") for token in body["tokens"])}


def token_id(word: str) -> int:
    """The id of a token: 1 for those of the template and of pictures."""
    if word.startswith("<") and word.endswith(">"):
        return 1
    return 2 + zlib.crc32(word.encode()) % (VOCABULARY - 2)


def prompt_ids(generation: GenerationRequest, sequence: int) -> list[int] | None:
    """The ids of a sequence's prompt; `None` if they were not asked for."""
    if not generation.token_ids or generation.prompts is None:
        return None
    return _ids(generation, generation.prompts[sequence])


def output_ids(
    generation: GenerationRequest, sequence: int, start: int, stop: int
) -> list[int] | None:
    """The ids of output tokens start to stop − 1 of a sequence; `None` if not asked for."""
    if not generation.token_ids:
        return None
    texts = (token_text(generation, sequence, index) for index in range(start, stop))
    return [token_id(text.strip()) for text in texts]


def _ids(generation: GenerationRequest, tokens: tuple[str, ...]) -> list[int]:
    given = generation.body.get("prompt")
    if isinstance(given, list) and given and not isinstance(given[0], str):
        return list(map(int, tokens))  # they came as ids
    return list(map(token_id, tokens))
