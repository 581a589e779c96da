"""The prompts of a request: their tokens as the emulated tokenizer makes them.

It counts maximal runs of non-space characters. A picture has as many tokens as the engine says.
Knows no sampling and no output.
"""

import json
import zlib
from collections.abc import Iterator

from loadtest.emulator.refusals import (
    REFUSED,
    JsonObject,
    RequestRefused,
    SchemaError,
    bad_parameter,
    validation_error,
    validation_errors,
)
from loadtest.emulator.served import EmulatedModel

# The emulated chat template. `loadtest/replay/send.py` subtracts the same numbers, so that a prompt
# has exactly the tokens of its trace row.
MESSAGE_TOKENS = 4  # per message
CHAT_TOKENS = 3  # once per conversation
PICTURES = ("image_url", "input_image", "image")  # types of content parts
# vLLM refuses a text without tokenizing it when it is longer than so many characters a token.
MOST_CHARACTERS_A_TOKEN = 33
MOST_ID = 2**18  # of a token, beyond the vocabulary of any model that is emulated

Prompts = list[list[str]]


def count_tokens(text: str) -> int:
    """Tokens that the emulated tokenizer makes of a text."""
    return len(text.split())


def chat_prompt(body: JsonObject, served: EmulatedModel) -> Prompts:
    """The tokens of a conversation, and those of the emulated template, which stand where they
    leave the beginning of a longer conversation the same."""
    if "messages" not in body:
        raise validation_error("missing", "body.messages", "Field required", body)
    messages = body["messages"]
    if not isinstance(messages, list):
        text = "Input should be a valid list"
        raise validation_error("list_type", "body.messages", text, messages)
    if not messages:
        text = "Cannot apply chat template to an empty conversation. "
        raise RequestRefused(400, f"{text}Provide at least one message.", REFUSED)
    tokens = ["<s>"] * CHAT_TOKENS
    for tool in body.get("tools") or []:
        tokens += json.dumps(tool).split()
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            where = f"body.messages.{index}"
            text = "Input should be a valid dictionary"
            raise validation_error("dict_type", where, text, message)
        tokens += [f"<{message.get('role')}>"] * MESSAGE_TOKENS
        tokens += content_tokens(message.get("content"), served)
        for call in message.get("tool_calls") or []:
            tokens += json.dumps(call).split()
    return [tokens]


def content_tokens(content: object, served: EmulatedModel) -> list[str]:
    """The tokens of one message's content: a text, or a list of texts and pictures."""
    if isinstance(content, str):
        check_characters(content, served.max_model_len)
        return content.split()
    tokens: list[str] = []
    for part in content if isinstance(content, list) else []:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            check_characters(part["text"], served.max_model_len)
            tokens += part["text"].split()
        elif part.get("type") in PICTURES and served.image_tokens is not None:
            tokens += [picture_token(part)] * served.image_tokens
        elif part.get("type") != "text":
            raise RequestRefused(400, f"{served.name} is not a multimodal model", REFUSED)
    return tokens


def picture_token(part: JsonObject) -> str:
    """The token that stands for a picture; the same picture has the same one."""
    return f"<image {zlib.crc32(json.dumps(part, sort_keys=True).encode()):x}>"


def pictures(body: JsonObject) -> int:
    """How many pictures a conversation shows."""
    contents = (m.get("content") for m in body.get("messages") or [] if isinstance(m, dict))
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return sum(isinstance(part, dict) and part.get("type") in PICTURES for part in parts)


def text_prompts(body: JsonObject, served: EmulatedModel) -> Prompts:
    """The tokens of each prompt of a completion."""
    if body.get("suffix"):
        message = "suffix is only supported for models with FIM completion rendering"
        raise RequestRefused(400, message, REFUSED, "suffix")
    given = body.get("prompt")
    if given is not None and not isinstance(given, str | list):
        # Four forms: ids, lists of ids, a text, texts.
        kinds = ("list", "list", "string", "list")
        words = [
            (f"{kind}_type", "body.prompt", f"Input should be a valid {kind}") for kind in kinds
        ]
        raise validation_errors([SchemaError(*each, given) for each in words])
    if given == []:
        raise RequestRefused(400, "You must pass at least one prompt", REFUSED)
    prompts = list(listed(given, served))
    if not prompts or not all(prompts):
        message = "Either prompt or prompt_embeds must be provided and non-empty."
        raise RequestRefused(400, f"{message} (parameter=prompt)", REFUSED, "prompt")
    return prompts


def embedding_prompts(body: JsonObject, served: EmulatedModel) -> Prompts:
    """The tokens of each input of an embedding; an empty text counts as one."""
    if "input" not in body:
        raise validation_error("missing", "body.input", "Field required", body)
    return [tokens or [""] for tokens in listed(body["input"], served)]


def listed(prompt: object, served: EmulatedModel) -> Iterator[list[str]]:
    """The tokens of each prompt in OpenAI's four forms: a text, token ids, or a list of either."""
    if isinstance(prompt, str) or (isinstance(prompt, list) and prompt[:1] and is_id(prompt[0])):
        prompt = [prompt]
    for item in prompt if isinstance(prompt, list) else []:
        if isinstance(item, str):
            check_characters(item, served.max_model_len)
            yield item.split()
        else:
            ids = item if isinstance(item, list) else []
            strange = next((each for each in ids if is_id(each) and not 0 <= each < MOST_ID), None)
            if strange is not None:
                text = f"Token id {strange} is out of vocabulary"
                raise RequestRefused(400, text, REFUSED)
            yield list(map(str, ids))


def is_id(value: object) -> bool:
    """Whether a value is a token's id."""
    return isinstance(value, int)


def prompt_texts(body: JsonObject) -> tuple[str, ...]:
    """What a completion with `echo` repeats of each prompt; token ids are shown as numbers."""
    prompt = body["prompt"]
    if isinstance(prompt, str) or is_id(prompt[0]):
        prompt = [prompt]
    return tuple(item if isinstance(item, str) else " ".join(map(str, item)) for item in prompt)


def check_characters(text: str, max_model_len: int) -> None:
    """Refuse a text that is too long before it is tokenized."""
    most = MOST_CHARACTERS_A_TOKEN * max_model_len
    if len(text) > most:
        message = (
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt "
            f"contains {len(text)} characters (more than {most} characters, which is the upper "
            f"bound for {max_model_len} input tokens). Please reduce the length of the input "
            "prompt."
        )
        raise bad_parameter(message, "input_text", len(text))


def check_prompt_fits(prompt: int, max_tokens: int) -> None:
    """Refuse a prompt that alone is longer than `max_tokens`."""
    if prompt > max_tokens:
        counted = max_tokens + 1  # as recorded: not the prompt's own length
        message = (
            f"This model's maximum context length is {max_tokens} tokens. However, your prompt "
            f"contains at least {counted} input tokens, which exceeds this limit even without "
            "any output tokens. Please reduce the length of the input prompt."
        )
        raise bad_parameter(message, "input_tokens", counted)
