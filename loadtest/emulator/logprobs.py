"""Log probabilities of emulated tokens, in the shapes of chats and of completions.

A number follows from its token alone. Knows no streams.
"""

import zlib

from loadtest.emulator.refusals import JsonObject
from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.text import token_text
from loadtest.emulator.tokenizer import token_id
from loadtest.emulator.words import WORDS


def logprobs_object(
    generation: GenerationRequest, sequence: int, start: int, stop: int
) -> JsonObject | None:
    """Those of output tokens start to stop − 1 of a sequence; `None` if they were not asked for."""
    count = generation.logprobs
    if count is None:
        return None
    tokens = [token_text(generation, sequence, index) for index in range(start, stop)]
    if generation.api == "chat":
        return {"content": [_chat_token(token, count) for token in tokens]}
    before = ""
    if start:
        before = "".join(token_text(generation, sequence, index) for index in range(start))
    return _text_tokens(tokens, count, len(before), generation, sequence, start)


def _chat_token(token: str, count: int) -> JsonObject:
    alternatives = [_entry(text) for text in (token, *_others(token, count - 1))][:count]
    return {**_entry(token), "top_logprobs": alternatives}


def _entry(token: str) -> JsonObject:
    return {"token": token, "logprob": logprob(token), "bytes": list(token.encode())}


def _text_tokens(
    tokens: list[str],
    count: int,
    offset: int,
    generation: GenerationRequest,
    sequence: int,
    start: int,
) -> JsonObject:
    """A completion's shape; with `echo` the tokens of the prompt stand first, the very first of
    them without a number."""
    prompt: list[str] = []
    if generation.echo is not None:
        echoed = generation.echo[sequence // generation.per_prompt]
        if start == 0:
            prompt = [word if n == 0 else f" {word}" for n, word in enumerate(echoed.split())]
        else:
            offset += len(echoed)
    offsets, values, tops = [], [], []
    for number, token in enumerate((*prompt, *tokens)):
        first = bool(prompt) and number == 0
        offsets.append(offset)
        values.append(None if first else logprob(token))
        texts = (token, *_others(token, count - 1))
        tops.append(None if first else {text: logprob(text) for text in texts})
        offset += len(token)
    return {
        "text_offset": offsets,
        "token_logprobs": values,
        "tokens": [*prompt, *tokens],
        "top_logprobs": tops,
    }


def _others(token: str, count: int) -> list[str]:
    """Other words that might have stood in a token's place."""
    start = zlib.crc32(token.encode())
    words = (WORDS[(start + n) % len(WORDS)] for n in range(len(WORDS)))
    return [word for word in dict.fromkeys(words) if word != token][: max(count, 0)]


def prompt_logprobs(generation: GenerationRequest, sequence: int) -> list[JsonObject | None] | None:
    """Those of a prompt's tokens by their ids, each with its alternatives; the first token has
    none. `None` if they were not asked for."""
    count, tokens = generation.prompt_logprobs, generation.prompts
    if count is None or tokens is None:
        return None
    rows: list[JsonObject | None] = [None]
    for word in tokens[sequence][1:]:
        text = f" {word}"
        texts = (text, *_others(text, count))
        ranks = (count + 1, *range(1, count + 1))
        rows.append(
            {
                str(token_id(each.strip())): {
                    "logprob": logprob(each), "rank": rank, "decoded_token": each,
                }
                for each, rank in zip(texts, ranks, strict=True)
            }
        )  # fmt: skip
    return rows


def logprob(token: str) -> float:
    """The log probability of a token, from −7 to −1."""
    return -1.0 - zlib.crc32(token.encode()) % 6000 / 1000
