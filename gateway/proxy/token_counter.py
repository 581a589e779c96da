"""Counts the tokens of prompts by the models' own tokenizers, where the configuration names them.

A tokenizer takes some 0.25 µs a byte. So it works in a thread of its own, without Python's lock,
and no request waits for it for longer than what it tells is worth: one that is not counted in time,
or is too long for that, is estimated by its bytes. Knows no estimate and no backend.
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.config.serving import ServedModel
from gateway.config.tokenizer_file import TokenizerFile, usable
from gateway.errors import BadRequest
from gateway.proxy.http.fiber import Promise
from gateway.routing.body import prompt_texts
from gateway.routing.llm_request import LlmRequest

log = logging.getLogger("cuvee")

PATIENCE_S: Final = 0.05
# What a thread counts in that time. A longer prompt, or one behind so much, would not be counted.
MOST_BYTES: Final = 192 * 1024
# To hand a text to the thread and to get its count back takes the CPU 35 µs; so long a text takes
# no longer than that at once.
AT_ONCE: Final = 128


class TokenCounter:
    """The tokenizers of one process. idle: whether there is none, as in most configurations."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._loop = asyncio.get_running_loop()
        self._files: dict[str, TokenizerFile] = {}
        self._loaded: dict[TokenizerFile, Any] = {}
        self._executor: ThreadPoolExecutor | None = None  # `_thread` would be a keyword of C
        self._waiting_bytes = 0
        self.configure(models)

    def __repr__(self) -> str:
        return f"<TokenCounter for {', '.join(self._files) or 'no model'}>"

    @property
    def ready(self) -> bool:
        """Whether all tokenizers are loaded."""
        return all(file in self._loaded for file in self._files.values())

    def configure(self, models: Sequence[ServedModel]) -> None:
        """Count the prompts of these models from now on; of each as soon as its tokenizer is
        loaded, which takes up to a second."""
        before = set(self._files.values())
        self._files = {m.name: m.tokenizer for m in models if m.tokenizer is not None}
        self.idle = not self._files
        now = set(self._files.values())
        for file in set(self._loaded) - now:
            self._loaded.pop(file, None)
        if self._files and self._executor is None:
            self._executor = ThreadPoolExecutor(1, "tokenizer")
        for file in now - before:
            assert self._executor is not None
            self._executor.submit(self._load, file)

    def close(self) -> None:
        """End the thread when it has counted what it counts now."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        self._files, self.idle = {}, True

    async def count(self, model: str, request: LlmRequest, body: bytes) -> int | None:
        """The tokens of all texts in the prompt of a request, without what a template adds; `None`
        if they cannot be counted, or not in time."""
        file, size = self._files.get(model), request.prompt_bytes
        tokenizer = None if file is None else self._loaded.get(file)
        if tokenizer is None or request.prompt_tokens is not None or request.endpoint.form:
            return None
        if size + self._waiting_bytes > MOST_BYTES:
            return None
        try:
            texts = prompt_texts(body, request.endpoint)
        except BadRequest:
            return None
        if size <= AT_ONCE:
            return _counted(tokenizer, texts)
        counted: Promise[int | None] = Promise()
        assert self._executor is not None
        self._waiting_bytes += size
        self._executor.submit(self._work, tokenizer, texts, counted, size)
        timer = self._loop.call_later(PATIENCE_S, counted.resolve, None)
        try:
            return await counted
        finally:
            timer.cancel()
            counted.resolve(None)  # if the client left, the thread needs not begin

    def _load(self, file: TokenizerFile) -> None:
        """Load a tokenizer, in the thread."""
        try:
            self._loaded[file] = usable(Path(file.path).read_bytes())
        except (OSError, ImportError, ValueError) as error:  # it could be used a moment ago
            log.warning("%s: %s; prompts are estimated by their bytes", file.path, error)

    def _work(
        self, tokenizer: Any, texts: list[str], counted: "Promise[int | None]", size: int
    ) -> None:
        """Count a prompt, in the thread."""
        tokens = None if counted.resolved else _counted(tokenizer, texts)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._done, counted, size, tokens)

    def _done(self, counted: "Promise[int | None]", size: int, tokens: int | None) -> None:
        self._waiting_bytes -= size
        counted.resolve(tokens)


def _counted(tokenizer: Any, texts: list[str]) -> int | None:
    """The tokens of texts; `None` if the tokenizer fails at them."""
    try:
        found = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    except Exception:  # the package has no class of its own for it
        return None
    return sum([len(one) for one in found])
