"""An engine's words that a prompt is too long are read, whichever engine says them."""

import json

import pytest

from gateway.proxy.context_refusal import ContextRefusal, context_refusal

OPENAI = "This model's maximum context length is 4096 tokens. However, "
WORDS = [
    (OPENAI + "you requested 5000 tokens (4500 in the messages, 500 in the completion). Please "
     "reduce the length of the messages or completion.", 4096, 4500),
    (OPENAI + "you requested 5000 tokens (4500 in your prompt; 500 for the completion).", 4096,
     4500),
    (OPENAI + "your request has 12014 input tokens. Please reduce the length of the input "
     "messages.", 4096, 12014),
    (OPENAI + "your messages resulted in 5,012 tokens.", 4096, 5012),
    (OPENAI + "you requested 10 output tokens and your prompt contains at least 4087 input tokens, "
     "for a total of at least 4097 tokens.", 4096, 4087),
    ("'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum context "
     "length is 4096 tokens and your request has 20 input tokens (8000 > 4096 - 20).", 4096, 20),
    ("You passed 5000 input tokens and requested 16 output tokens. However, the model's context "
     "length is only 4096 tokens, resulting in a maximum input length of 4080 tokens.", 4096, 5000),
    ("The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure "
     "that `max_model_len` is no smaller than the number of text tokens.", 4096, 5000),
    ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 4096,
     5000),
    ("Requested token count exceeds the model's maximum context length of 4096 tokens. You "
     "requested a total of 5000 tokens: 4500 tokens from the input messages and 500 tokens for the "
     "completion.", 4096, 4500),
    ("Input validation error: `inputs` must have less than 1024 tokens. Given: 1200", 1024, 1200),
    ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 1000 "
     "`inputs` tokens and 1500 `max_new_tokens`", 2048, 1000),
    ("Prompt length (5000) exceeds maximum input length (4096).", 4096, 5000),
    ("The sum of prompt length (8100), query length (0) and max_tokens (1024) should not exceed "
     "max_num_tokens (8192), the prompt length would exceed it", 8192, 8100),
    ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
     4096, 5000),
    ("prompt is too long: 200251 tokens > 200000 maximum", 200000, 200251),
    ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input "
     "length or `max_tokens` and try again", 200000, 190000),
    ("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 "
     "tokens.", 272000, 300000),
    ("context window 4096: 12000 given", 4096, 12000),
    ("context window 4096: 3000 + 2000 asked", 4096, 3000),
    ("the request exceeds the available context size. try increasing the context size", None, None),
    ("Input length (5000 tokens) exceeds the maximum allowed length (4095 tokens). Use a shorter "
     "input or enable --allow-auto-truncate.", 4095, 5000),
    ("Prompt contains 5000 tokens and 0 draft tokens, too large for model with 4096 maximum "
     "context length", 4096, 5000),
    ("Token indices sequence length is longer than the specified maximum sequence length for this "
     "model (600 > 512)", 512, 600),
    ("the prompt is longer than the context: 5000 > 4096", 4096, 5000),
    ("Sequence too long: 5000 > 4096", 4096, 5000),
    ("Exceeded max sequence length of 4096", 4096, None),
    ("too many tokens: 5000 (limit 4096)", 4096, 5000),
    ("Request too large: prompt token count of 5000 exceeds the limit of 4096", 4096, 5000),
    ("Your input exceeds the context window of this model.", None, None),
]  # fmt: skip


def numbers(body):
    refused = context_refusal(body)
    assert refused is not None
    return refused.limit, refused.prompt_tokens


@pytest.mark.parametrize(("words", "limit", "prompt"), WORDS)
def test_every_engines_words_are_read(words, limit, prompt):
    """As an error object of OpenAI's shape, as TGI's, and as FastAPI's."""
    for error in ({"error": {"message": words, "code": 400}}, {"error": words}, {"detail": words}):
        assert numbers(json.dumps(error).encode()) == (limit, prompt)


def test_error_events_and_plain_text_are_read_as_well():
    """An event has the error object alone."""
    words = WORDS[0][0]
    for body in (json.dumps({"message": words, "code": 400}).encode(), words.encode()):
        assert numbers(body) == (4096, 4500)


def test_codes_and_fields_say_it_without_words():
    """OpenAI's code, and the type and the numbers of llama.cpp."""
    assert numbers(b'{"error": {"message": "no", "code": "context_length_exceeded"}}') == (
        None,
        None,
    )
    told = (
        b'{"error":{"code":400,"message":"no","type":"exceed_context_size_error",'
        b'"n_prompt_tokens":5000,"n_ctx":4096}}'
    )
    assert numbers(told) == (4096, 5000)


@pytest.mark.parametrize(
    ("limit", "prompt", "max_tokens", "least"),
    [
        (4096, 5000, 10, 5000),
        (4096, None, None, 4096),
        (4096, None, 96, 4000),
        (4096, None, 8000, None),
        (None, None, 10, None),
    ],
)
def test_the_prompt_is_so_long_at_least(limit, prompt, max_tokens, least):
    """Where the engine does not say, what its answer leaves of the room did not do."""
    refused = ContextRefusal(limit=limit, prompt_tokens=prompt)

    assert refused.least(max_tokens) == least


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"7", b"\xff\xfe", b'{"error": null}', b"<html>502</html>",
        b'{"error": {"message": "max_tokens must be at least 1, got 0."}}',
        b'{"error": {"message": "The model `x` does not exist."}}',
        b'{"error": {"message": "stop: list too long, length 5 > 4"}}',
        b'{"error": {"message": {"a": 1}, "code": ["x"]}}',
        b'{"error": {"message": "image too large: 5000 > 4096"}}',
        b'{"error": {"message": "too many images: 30 (limit 16)"}}',
        b'{"error": {"message": "messages[3].name is too long"}}',
        b'{"error": {"message": "the length of the file exceeds the limit of 20 MB"}}',
    ],
)  # fmt: skip
def test_any_other_error_is_none(body):
    """Also one that cannot be read."""
    assert context_refusal(body) is None
