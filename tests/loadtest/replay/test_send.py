"""An open-loop replay over real sockets: what is sent when, and what becomes of each request."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from loadtest.replay.record import Record
from loadtest.replay.send import ReplayOptions, models, replay
from planner.traffic.trace import Trace

ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
OPTIONS = ReplayOptions(model="m")
LAST = {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]}
Step = Callable[["Script", int, web.StreamResponse], Awaitable[None]]


def content(text: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def answer(script: "Script", index: int, reply: web.StreamResponse) -> None:
    """The ordinary stream: role, three words, the end, usage."""
    for data in (ROLE, content("one"), content(" two"), content(" three"), LAST):
        await reply.write(event(data))
    usage = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3}}
    await reply.write(event(usage) + b"data: [DONE]\n\n")


@dataclass
class Script:
    """A server that does what the test says and keeps what it was sent."""

    step: Step = answer
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    error: bytes = b""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    expected: int = 0

    async def post(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.requests.append(request)
        if len(self.bodies) >= self.expected:
            self.arrived.set()
        if self.status != 200:
            return web.Response(status=self.status, body=self.error, headers=self.headers)
        reply = web.StreamResponse(headers=self.headers)
        await reply.prepare(request)
        await self.step(self, len(self.bodies) - 1, reply)
        return reply

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "first"}, {"id": "second"}]})

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", self.post)
        app.router.add_post("/v1/completions", self.post)
        app.router.add_get("/v1/models", self.models)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def trace(*rows: tuple[float, int, int], keys: tuple[str, ...] | None = None) -> Trace:
    arrival, inputs, outputs = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    return Trace(
        arrival_s=arrival,
        input_tokens=inputs,
        output_tokens=outputs,
        key=keys or ("",) * len(rows),
    )


async def replay_one(script: Script, **options: Any) -> Record:
    """The record of a single request."""
    async with script.serve() as url:
        records = await replay(url, trace((0.0, 20, 3)), ReplayOptions(model="m", **options))
    assert len(records) == 1
    return records[0]


async def test_a_good_stream_becomes_a_complete_record():
    """Times, tokens from usage, finish reason and status of one exchange."""
    record = await replay_one(Script())

    assert (record.status, record.error, record.finish_reason) == (200, None, "stop")
    assert (record.input_tokens, record.output_tokens) == (11, 3)
    assert record.ttft_s is not None
    assert record.tpot_s is not None
    assert 0 < record.ttft_s <= record.ttft_s + 2 * record.tpot_s <= record.e2e_s
    assert record.lag_s == record.sent_s - record.arrival_s >= 0


async def test_requests_do_not_wait_for_replies():
    """The load is open: no reply begins before the last request has arrived."""

    async def hold(script: Script, index: int, reply: web.StreamResponse) -> None:
        await script.arrived.wait()
        await answer(script, index, reply)

    script = Script(step=hold, expected=150)
    async with script.serve() as url, asyncio.timeout(10):  # ends a load that would wait for ever
        records = await replay(url, trace(*[(0.001 * n, 20, 3) for n in range(150)]), OPTIONS)

    assert [record.error for record in records] == [None] * 150


async def test_requests_leave_in_the_order_and_not_before_the_time_of_the_trace():
    """Each record keeps its own due time, and nothing is early."""
    due = (0.0, 0.05, 0.05, 0.12)
    async with Script().serve() as url:
        records = await replay(url, trace(*[(at, 20, 3) for at in due]), OPTIONS)

    assert [record.index for record in records] == [0, 1, 2, 3]
    assert [record.arrival_s for record in records] == pytest.approx(due)
    assert all(record.sent_s >= record.arrival_s for record in records)


async def test_rate_scale_compresses_time():
    """At twice the rate everything is due after half the time, and twice as much fits in."""
    rows = trace(*[(float(n), 20, 3) for n in range(8)])
    options = ReplayOptions(model="m", rate_scale=50.0, duration_s=0.1)
    async with Script().serve() as url:
        records = await replay(url, rows, options)

    assert [record.arrival_s for record in records] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])


async def test_the_body_asks_for_the_size_of_the_trace():
    """The trace's words less the chat's own tokens, and the output length in vllm_xargs."""
    script = Script()
    async with script.serve() as url:
        await replay(url, trace((0.0, 7000, 123)), ReplayOptions(model='a "model"'))

    (body,) = script.bodies
    (message,) = body.pop("messages")
    assert message["role"] == "user"
    assert len(message["content"].split()) == 7000 - 4 - 3
    assert body == {
        "model": 'a "model"',
        "stream": True,
        "stream_options": {"include_usage": True},
        "vllm_xargs": {"output_tokens": 123},
    }


async def test_exact_output_speaks_to_real_engines():
    """A real engine writes as much as max_tokens and ignore_eos demand."""
    script = Script()
    await replay_one(script, exact_output=True)

    assert script.bodies[0]["max_tokens"] == 3
    assert script.bodies[0]["ignore_eos"] is True


async def test_completions_send_a_bare_prompt():
    """Without a chat around it the prompt has exactly the trace's words."""
    script = Script()
    await replay_one(script, endpoint="completions", max_tokens=9)

    assert [request.path for request in script.requests] == ["/v1/completions"]
    assert len(str(script.bodies[0]["prompt"]).split()) == 20
    assert script.bodies[0]["max_tokens"] == 9


async def test_the_key_of_the_trace_is_the_api_key():
    """The gateway sees the sender of each request, and an unknown sender has a key too."""
    script = Script()
    async with script.serve() as url:
        rows = trace((0.0, 20, 3), (0.01, 20, 3), keys=("team-a", ""))
        records = await replay(url, rows, OPTIONS)

    keys = sorted(request.headers["authorization"] for request in script.requests)
    assert keys == ["Bearer sk-replay", "Bearer team-a"]
    assert [record.key for record in records] == ["team-a", ""]


async def test_the_receipt_is_kept():
    """Where the gateway sent a request, and why, can be read from its record."""
    receipt = {name: f"the {name}" for name in ("pool", "backend", "bucket", "plan", "decision")}
    headers = {f"x-cuvee-{name}": value for name, value in receipt.items()} | {"x-request-id": "r1"}
    record = await replay_one(Script(headers=headers))

    assert {name: getattr(record, name) for name in receipt} == receipt
    assert record.request_id == "r1"


async def test_a_refusal_is_counted_by_status_and_code():
    """The error object of a refusal is told apart from others, with its receipt kept."""
    error = {"message": "slow down", "type": "rate_limit_error", "code": "queue_full"}
    script = Script(
        status=429,
        error=json.dumps({"error": error}).encode(),
        headers={"x-cuvee-decision": "shed"},
    )
    record = await replay_one(script)

    assert (record.status, record.error) == (429, "429 queue_full rate_limit_error")
    assert (record.message, record.decision) == ("slow down", "shed")
    assert record.ttft_s is None


async def test_a_refusal_without_an_error_object_is_still_a_failure():
    """A proxy's HTML page in place of OpenAI's error fails with its status."""
    record = await replay_one(Script(status=502, error=b"<html>Bad Gateway</html>"))

    assert (record.error, record.message) == ("502", "<html>Bad Gateway</html>")


async def test_an_error_inside_a_stream_is_a_failure():
    """vLLM reports overload inside a 200 stream that ends in [DONE]."""

    async def refuse(script: Script, index: int, reply: web.StreamResponse) -> None:
        error = {"message": "busy", "type": "Service Unavailable", "code": 503}
        await reply.write(event({"error": error}) + b"data: [DONE]\n\n")

    record = await replay_one(Script(step=refuse))

    assert (record.status, record.error) == (200, "stream 503 Service Unavailable")
    assert record.message == "busy"


async def test_a_stream_without_done_is_truncated():
    """A clean end is not a good end."""

    async def stop(script: Script, index: int, reply: web.StreamResponse) -> None:
        await reply.write(event(ROLE) + event(content("half")))

    record = await replay_one(Script(step=stop))

    assert record.error == "truncated"
    assert (record.output_tokens, record.tpot_s) == (1, None)
    assert record.ttft_s is not None


async def test_a_reset_is_a_failure_and_nothing_is_sent_twice():
    """One row is one request, whatever happens to it."""

    async def reset(script: Script, index: int, reply: web.StreamResponse) -> None:
        await reply.write(event(ROLE))
        transport = script.requests[index].transport
        assert transport is not None
        transport.abort()

    script = Script(step=reset)
    record = await replay_one(script)

    assert record.error is not None
    assert record.error != "truncated"
    assert len(script.bodies) == 1


async def test_a_silent_server_runs_into_the_timeout():
    """An exchange that never ends is given up and says so."""

    async def silence(script: Script, index: int, reply: web.StreamResponse) -> None:
        await asyncio.Event().wait()

    record = await replay_one(Script(step=silence), timeout_s=0.05)

    assert record.error == "timeout"


async def test_a_refused_connection_is_a_record_too():
    """A refused connection is a failed request, not the end of the replay."""
    async with Script().serve() as url:
        pass
    records = await replay(url, trace((0.0, 20, 3), (0.01, 20, 3)), OPTIONS)

    assert [record.status for record in records] == [None, None]
    assert all(record.error for record in records)


async def test_records_are_handed_out_as_they_complete():
    """The callback gets a fast request before a slow one that was sent earlier."""

    async def overtake(script: Script, index: int, reply: web.StreamResponse) -> None:
        if index == 0:
            await script.arrived.wait()
        await answer(script, index, reply)

    seen: list[int] = []
    script = Script(step=overtake, expected=99)

    def watch(record: Record) -> None:
        seen.append(record.index)
        script.arrived.set()

    async with script.serve() as url:
        records = await replay(url, trace((0.0, 20, 3), (0.02, 20, 3)), OPTIONS, on_record=watch)

    assert seen == [1, 0]
    assert [record.index for record in records] == [0, 1]


async def test_models_are_listed():
    """The command takes the first of them when no model is named."""
    async with Script().serve() as url:
        assert await models(url) == ("first", "second")
