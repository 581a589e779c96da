"""A collector of OpenTelemetry for tests: it reads what comes with the official messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

pytest.importorskip("opentelemetry.proto", reason="no package opentelemetry-proto")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class OtlpCollector:
    """What came. spans, metrics: of all messages that were taken. answers: statuses of the next
    messages; then all are taken. pause: what a refusal asks for, seconds. headers: of the last
    message."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.resource: dict[str, Any] = {}
        self.answers: list[int] = []
        self.pause = "0"
        self.headers: dict[str, str] = {}
        self.bodies: list[bytes] = []
        self.url = ""

    async def got(self, spans: int) -> None:
        """Wait for so many."""
        async with asyncio.timeout(20):
            while len(self.spans) < spans:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.02)

    async def traces(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if self.answers and (status := self.answers.pop(0)) != 200:
            return web.Response(status=status, headers={"retry-after": self.pause})
        for found in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = named(found.resource.attributes)
            self.spans += [span for scope in found.scope_spans for span in scope.spans]
        return web.Response()

    async def measured(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in found.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}
        return web.Response()

    async def _body(self, request: web.Request) -> bytes:
        assert request.content_type == "application/x-protobuf"
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        self.bodies.append(body)
        return body


def named(attributes: Any) -> dict[str, Any]:
    """Attributes as a mapping; each may be there once."""
    found = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
    assert len(found) == len(attributes)
    return found


@asynccontextmanager
async def collecting() -> AsyncIterator[OtlpCollector]:
    """One that listens."""
    collector = OtlpCollector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.traces)
    app.router.add_post("/v1/metrics", collector.measured)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    collector.url = f"http://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()
