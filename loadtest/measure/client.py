"""A running backend, over HTTP: its name, its metrics, and a closed loop of streams.

Owns the connections and the clock. What is sent and counted is `closed_loop`'s.
"""

import asyncio
import contextlib
import time
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec

from gateway.proxy.engines import DIALECTS
from loadtest.measure.closed_loop import ClosedLoop
from loadtest.measure.load import Exchanged, Load, LoadPoint, Unmeasurable
from loadtest.measure.prompt_length import PromptLength, random_text
from loadtest.measure.quiet import Gauges, read_gauges, seats, strangers
from loadtest.replay.stream import StreamReader, StreamUsage

PATH = "/v1/completions"  # no chat template: a prompt is the text that is sent
KEEPALIVE_S = 2.0  # below the 5 s after which vLLM hangs up
CONNECT_S = 10.0
SHORT_S = 10.0  # for a page of metrics or names
SILENCE_S = 120.0  # in which a stream brings nothing
LOOK_S = 1.0  # between two looks at the metrics
EMPTY_S = 15.0
ERROR_CHARS = 300


class ListedModel(NamedTuple):
    """A model of `/v1/models`. max_model_len: `None` where the engine does not say."""

    name: str
    max_model_len: int | None


def _context(entry: dict[str, Any]) -> int | None:
    """The longest context of a listed model: `max_model_len`, or llama.cpp's `meta.n_ctx`."""
    told = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx")
    return told if isinstance(told, int) else None


class HttpBackend:
    """One backend: `async with HttpBackend(url, key=…) as backend`.

    key: sent as `Authorization: Bearer`. random: draws the prompts. patience_s: how long it may
    take until the requests of the last load are gone.
    """

    def __init__(
        self, url: str, *, key: str | None, random: Random, patience_s: float = EMPTY_S
    ) -> None:
        self.url = url.rstrip("/")
        self.model = ""
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._random = random
        self._patience_s = patience_s
        self._length = PromptLength()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # limit=0: a pool of connections would queue requests.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            trust_env=False,  # a proxy from the environment would be measured too
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self._session.close()

    async def models(self) -> tuple[ListedModel, ...]:
        """What it serves. Raises Unmeasurable if it does not say."""
        text = await self._get("/v1/models")
        try:
            entries = msgspec.json.decode(text or "")["data"]
            return tuple(ListedModel(e["id"], _context(e)) for e in entries)
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
            raise Unmeasurable(f"{self.url}/v1/models: no list of models") from error

    async def version(self) -> str | None:
        """The engine's version, asked for where each known engine tells it; `None`: it does not."""
        for path in dict.fromkeys(dialect.version for dialect in DIALECTS.values()):
            with contextlib.suppress(Unmeasurable, msgspec.DecodeError):
                answer = msgspec.json.decode(await self._get(path))
                if isinstance(answer, dict) and isinstance(answer.get("version"), str):
                    return str(answer["version"])
        return None

    async def gauges(self) -> Gauges | None:
        """What its metrics say now; `None` where it has none that we know."""
        with contextlib.suppress(Unmeasurable):
            return read_gauges(await self._get("/metrics"))
        return None

    async def prepare(self, model: str, context: int | None = None) -> None:
        """Serve requests of this model from now on: learn how many tokens its words are. context:
        the longest that it takes, in tokens; `None`: not known."""
        self.model = model
        await self.empty()
        for _ in range(2):  # a short prompt and a long one
            await self._ask(self._length.probe(context), 2)

    async def empty(self) -> None:
        """Wait until it serves no request. Raises Unmeasurable if it goes on serving some."""
        until_s = time.perf_counter() + self._patience_s
        while (gauges := await self.gauges()) is not None and gauges.requests:
            if time.perf_counter() > until_s:
                raise Unmeasurable(
                    f"{self.url} is busy: {gauges.requests} requests that are not ours. Measure "
                    "a backend that serves nobody else"
                )
            await asyncio.sleep(LOOK_S / 4)

    async def play(self, load: Load) -> LoadPoint:
        """Put a load on the backend until it is measured. Raises Unmeasurable."""
        await self.empty()
        loop, whole, cpu_s = (
            ClosedLoop(load, time.perf_counter()),
            asyncio.Event(),
            time.process_time(),
        )
        seen: list[Gauges] = []

        async def user() -> None:
            while True:
                inputs, outputs, counts = loop.begin()
                words = self._length.words(inputs)
                pause_s = loop.end(await self._ask(words, outputs), counts)
                if loop.whole:
                    whole.set()
                await asyncio.sleep(pause_s)

        async def look() -> None:
            while (gauges := await self.gauges()) is not None:
                seen.append(gauges)
                await asyncio.sleep(LOOK_S)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(user()) for _ in range(load.users)]
                tasks.append(group.create_task(look()))
                await whole.wait()
                for task in tasks:
                    task.cancel()
        except* Unmeasurable as errors:
            raise errors.exceptions[0] from None
        stranger = strangers(load, seen)
        if stranger:
            raise Unmeasurable(f"{self.url} is busy: {stranger}")
        result = loop.result(time.perf_counter(), seats=seats(load, seen))
        return msgspec.structs.replace(
            result, own_cpu=(time.process_time() - cpu_s) / result.seconds
        )

    async def _ask(self, words: int, outputs: int) -> Exchanged:
        """Send one request and read its answer to the end."""
        body = {
            "model": self.model,
            "prompt": random_text(words, self._random),
            "max_tokens": outputs,
            "min_tokens": outputs,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        events, sent_s, reads = StreamReader(), time.perf_counter(), 0
        try:
            async with self._session.post(self.url + PATH, json=body) as reply:
                if reply.status != 200:
                    text = (await reply.text(errors="replace"))[:ERROR_CHARS]
                    raise Unmeasurable(f"{self.url}{PATH} answers {reply.status}: {text}")
                async for data in reply.content.iter_any():
                    events.feed(data, time.perf_counter())
                    reads += 1
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unmeasurable(f"{self.url}{PATH}: {error or 'no answer'}") from error
        events.close()
        usage = events.usage or StreamUsage()
        if events.error or events.first_s is None or events.last_s is None:
            reason = events.error[1] if events.error else "a stream without a token"
            raise Unmeasurable(f"{self.url}{PATH}: {reason}")
        if not usage.prompt_tokens or usage.completion_tokens is None:
            raise Unmeasurable(f"{self.url}{PATH}: a stream without usage: tokens are not known")
        self._length.learn(words, usage.prompt_tokens)
        return Exchanged(
            sent_s=sent_s, first_s=events.first_s, last_s=events.last_s,
            input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, reads=reads,
        )  # fmt: skip

    async def _get(self, path: str) -> str:
        """The text at a path. Raises Unmeasurable."""
        timeout = aiohttp.ClientTimeout(total=SHORT_S)
        try:
            async with self._session.get(self.url + path, timeout=timeout) as reply:
                if reply.status != 200:
                    raise Unmeasurable(f"{self.url}{path} answers {reply.status}")
                return await reply.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unmeasurable(f"{self.url}{path}: {error or 'no answer'}") from error
