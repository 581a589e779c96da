"""Paths of an emulated engine that say something of a text, and generate nothing."""

from collections.abc import Callable, Iterator

from aiohttp import web

from loadtest.emulator import dialects, prompts, requests, tokenizer
from loadtest.emulator.framework import Route, error_response, json_response, read_json_body
from loadtest.emulator.refusals import JsonObject, RequestRefused
from loadtest.emulator.requests import Api
from loadtest.emulator.served import EmulatedModel
from loadtest.emulator.words import WORDS


def text_routes(served: EmulatedModel) -> Iterator[tuple[str, Route]]:
    """The paths, all POST, and what answers them."""

    def tokenize(body: JsonObject) -> JsonObject:
        return tokenizer.tokenize_answer(body, served)

    def detokenize(body: JsonObject) -> JsonObject:
        return tokenizer.detokenize_answer(body, served, tuple(map(str.strip, WORDS)))

    def count_tokens(body: JsonObject) -> JsonObject:
        chat = dialects.counted_chat(body)
        (tokens,) = prompts.chat_prompt(chat, served)
        served.answering(chat)
        count = len(tokens)
        return {"input_tokens": count, "context_management": {"original_input_tokens": count}}

    yield "/v1/messages/count_tokens", _about(count_tokens)
    yield "/tokenize", _about(tokenize)
    yield "/detokenize", _about(detokenize)


def _about(answer: Callable[[JsonObject], JsonObject]) -> Route:
    async def say(request: web.Request) -> web.Response:
        api: Api = "message" if request.path.startswith("/v1/messages") else "text"
        try:
            body = requests.decode_body(await read_json_body(request))
            return json_response(200, answer(body))
        except RequestRefused as refused:
            return error_response(refused, api)

    return say
