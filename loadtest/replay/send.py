"""Open-loop streaming load from a trace: a request is sent when it is due, whatever came back.

Owns the sending and the clock of a replay. `stream` reads events, `report` adds up. Of the server
it knows OpenAI's API alone. Sends nothing twice.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import aiohttp
import msgspec

from loadtest.replay import prompt, stream
from loadtest.replay.record import Record, tpot_s
from planner.traffic.trace import Trace

Endpoint = Literal["chat", "completions"]
PATHS: dict[Endpoint, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
CHAT_TOKENS = 4 + 3  # the emulated tokenizer counts 4 for the one message and 3 for the chat
ANONYMOUS = "sk-replay"
KEEPALIVE_S = 2.0  # below the 5 s after which vLLM hangs up: a POST on a dead connection is lost
CONNECT_S = 10.0
TIMEOUT_S = 600.0  # as the OpenAI SDK
ERROR_BYTES = 65536  # of an error body that are read


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How a trace is sent.

    duration_s: seconds of sending, `None` for the whole trace. rate_scale: divides arrival times.
    exact_output: ask a real engine for exactly the trace's output length. max_tokens: a cap on
    every request's output. timeout_s: of one whole exchange.
    """

    model: str
    endpoint: Endpoint = "chat"
    duration_s: float | None = None
    rate_scale: float = 1.0
    exact_output: bool = False
    max_tokens: int | None = None
    timeout_s: float = TIMEOUT_S

    def select(self, trace: Trace) -> Trace:
        """The part of a trace that is due within the duration, in the trace's own time."""
        if self.duration_s is None:
            return trace
        return trace.slice(0.0, self.duration_s * self.rate_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeTimes:
    """When one exchange was due, since the replay's start, and when it was sent and ended, on
    `time.perf_counter`."""

    due_s: float
    sent_s: float
    ended_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayClient:
    """What all requests of a replay share. origin_s: its start on `time.perf_counter`."""

    session: aiohttp.ClientSession
    url: str
    trace: Trace
    corpus: prompt.PromptCorpus
    options: ReplayOptions
    origin_s: float
    on_record: Callable[[Record], None] | None

    def body(self, index: int) -> bytes:
        """The request of one trace row, its prompt spliced in as bytes."""
        inputs = int(self.trace.input_tokens[index])
        outputs = int(self.trace.output_tokens[index])
        hits = int(self.trace.cached_tokens[index])
        fields: dict[str, object] = {
            "stream": True,
            "stream_options": {"include_usage": True},
            "vllm_xargs": {"output_tokens": outputs},  # what emulated engines go by
        }
        if self.options.exact_output:
            fields |= {"max_tokens": outputs, "ignore_eos": True}
        elif self.options.max_tokens is not None:
            fields["max_tokens"] = self.options.max_tokens
        if self.options.endpoint == "chat":
            text = self.corpus.prompt(inputs - CHAT_TOKENS, index, hits - CHAT_TOKENS)
            middle = b',"messages":[{"role":"user","content":"' + text + b'"}],'
        else:
            middle = b',"prompt":"' + self.corpus.prompt(inputs, index, hits) + b'",'
        model = msgspec.json.encode(self.options.model)
        return b'{"model":' + model + middle + msgspec.json.encode(fields)[1:]

    async def send(self, index: int, due_s: float) -> Record:
        """Send one request and read its reply to the end; any failure is in the record."""
        body, key = self.body(index), self.trace.key[index]
        headers = {
            "Authorization": f"Bearer {key or ANONYMOUS}",
            "Content-Type": "application/json",
        }
        events, reply, error = stream.StreamReader(), None, None
        sent_s = time.perf_counter()
        try:
            async with self.session.post(self.url, data=body, headers=headers) as reply:
                error = await _read(reply, events)
        except TimeoutError:
            error = ("timeout", "")
        except (aiohttp.ClientError, OSError) as exception:
            error = (type(exception).__name__, str(exception))
        times = ExchangeTimes(due_s=due_s, sent_s=sent_s, ended_s=time.perf_counter())
        events.close()
        record = self._record(index, times, events, reply, error)
        if self.on_record:
            self.on_record(record)
        return record

    def _record(
        self,
        index: int,
        times: ExchangeTimes,
        events: stream.StreamReader,
        reply: aiohttp.ClientResponse | None,
        error: tuple[str, str] | None,
    ) -> Record:
        error = error or _stream_error(events)
        usage = events.usage or stream.StreamUsage()
        counted = usage.completion_tokens
        tokens = events.tokens if counted is None else counted
        receipt = reply.headers if reply is not None else {}
        return Record(
            index=index,
            arrival_s=times.due_s,
            sent_s=times.sent_s - self.origin_s,
            e2e_s=times.ended_s - times.sent_s,
            input_tokens=usage.prompt_tokens or int(self.trace.input_tokens[index]),
            output_tokens=tokens,
            cached_tokens=usage.cached_tokens,
            status=reply.status if reply is not None else None,
            ttft_s=None if events.first_s is None else events.first_s - times.sent_s,
            tpot_s=tpot_s(events.first_s, events.last_s, tokens),
            finish_reason=events.finish_reason,
            error=error[0] if error else None,
            message=error[1] if error else None,
            key=self.trace.key[index],
            request_id=receipt.get("x-request-id"),
            pool=receipt.get("x-cuvee-pool"),
            backend=receipt.get("x-cuvee-backend"),
            bucket=receipt.get("x-cuvee-bucket"),
            plan=receipt.get("x-cuvee-plan"),
            decision=receipt.get("x-cuvee-decision"),
        )


async def replay(
    url: str,
    trace: Trace,
    options: ReplayOptions,
    *,
    on_record: Callable[[Record], None] | None = None,
) -> tuple[Record, ...]:
    """Send the trace to a server and wait for every reply; records in the order of the trace.

    url: of the server, without a path. on_record: called with each record when it is complete.
    """
    trace = options.select(trace)
    corpus = prompt.build_corpus(int(trace.input_tokens.max()) if len(trace) else 0)

    async with _session(options.timeout_s) as session, asyncio.TaskGroup() as group:
        client = ReplayClient(
            session=session,
            url=url.rstrip("/") + PATHS[options.endpoint],
            trace=trace,
            corpus=corpus,
            options=options,
            origin_s=time.perf_counter(),
            on_record=on_record,
        )
        tasks = []
        for index, due_s in enumerate((trace.arrival_s / options.rate_scale).tolist()):
            # Each wait aims at an instant, not at a gap, so that lateness does not add up.
            await asyncio.sleep(max(0.0, client.origin_s + due_s - time.perf_counter()))
            tasks.append(group.create_task(client.send(index, due_s)))
    return tuple(task.result() for task in tasks)


async def models(url: str, key: str | None = None) -> tuple[str, ...]:
    """The names that a server lists at `/v1/models`. key: that it asks for. Raises
    aiohttp.ClientError or TimeoutError."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        _session(CONNECT_S) as session,
        session.get(url.rstrip("/") + "/v1/models", headers=headers) as reply,
    ):
        reply.raise_for_status()
        return tuple(entry["id"] for entry in (await reply.json())["data"])


def _session(timeout_s: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # limit=0: a pool of connections would queue requests, and the loop would be open no more.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,  # a proxy from the environment would be measured with the server
    )


async def _read(
    reply: aiohttp.ClientResponse, events: stream.StreamReader
) -> tuple[str, str] | None:
    """Feed a reply to `events`; return kind and message of an error that came in place of it."""
    if reply.status == 200:
        async for data in reply.content.iter_any():
            events.feed(data, time.perf_counter())
        return None
    body = await reply.content.read(ERROR_BYTES)
    try:
        error, message = stream.describe_error(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return str(reply.status), body.decode(errors="replace")[: stream.MESSAGE_CHARS]
    # vLLM's error code repeats the status: name it once.
    return " ".join(dict.fromkeys(f"{reply.status} {error}".split())), message


def _stream_error(events: stream.StreamReader) -> tuple[str, str] | None:
    """What is wrong with a stream that ended: an error event in it, or no [DONE]."""
    if events.error:
        return f"stream {events.error[0]}", events.error[1]
    # The OpenAI SDK takes a clean end without [DONE] for a whole answer; a measurement must not.
    return None if events.done else ("truncated", "the stream ended without [DONE]")
