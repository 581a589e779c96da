"""The table of engines: their health paths, idle limits, error shapes and metric names. No I/O.

A new engine is a new row. Error replies of every engine become OpenAI error objects here. Knows no
router and no connection.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from gateway.config.upstream import Upstream
from gateway.errors import FailureKind, UpstreamError
from gateway.proxy.context_refusal import ContextRefusal, context_refusal
from gateway.proxy.http.pool import REUSE_S
from gateway.routing.endpoints import ALL, CHAT, COMPLETIONS, POOLING

LONGEST_MESSAGE: Final = 500  # characters that are passed on of a body without an error object


class EngineMetrics:
    """The names of an engine's Prometheus metrics; `None` where it has none.

    running, waiting: gauges, numbers of requests. kv_used: gauge, used share of the KV cache, 0 to
    1. kv_tokens: gauge, tokens that fit into it, or a notice (`…_info`) with them in its labels.
    hits, queries: counters of prompt tokens found and looked up in the prefix cache. sleeping:
    gauge by `sleep_state`, of which one is `awake`.
    """

    __slots__ = ("hits", "kv_tokens", "kv_used", "queries", "running", "sleeping", "waiting")

    def __init__(
        self,
        *,
        running: str | None = None,
        waiting: str | None = None,
        kv_used: str | None = None,
        hits: str | None = None,
        queries: str | None = None,
        kv_tokens: str | None = None,
        sleeping: str | None = None,
    ) -> None:
        self.running = running
        self.waiting = waiting
        self.kv_used = kv_used
        self.hits = hits
        self.queries = queries
        self.kv_tokens = kv_tokens
        self.sleeping = sleeping


class EngineDialect:
    """What differs between engines beside the OpenAI API; never changed.

    health: path that answers 200 while the engine can serve. version: path that answers an object
    with its `version`. reuse_s: seconds after which an idle
    connection is not used again; below the engine's own limit, so that no request meets a
    connection that is being closed. statuses: HTTP statuses of the engine, and those that OpenAI
    clients expect instead. overloaded: text in an error message that means that the engine is full,
    whatever its status. lacks: names of endpoints that the engine does not have.
    """

    __slots__ = (
        "health",
        "lacks",
        "metrics",
        "name",
        "overloaded",
        "reuse_s",
        "statuses",
        "version",
    )

    def __init__(
        self,
        name: str,
        *,
        health: str = "/health",
        version: str = "/version",
        reuse_s: float,
        statuses: dict[int, int],
        overloaded: str | None = None,
        lacks: frozenset[str] = frozenset(),
        metrics: EngineMetrics,
    ) -> None:
        self.name = name
        self.health = health
        self.version = version
        self.reuse_s = reuse_s
        self.statuses = statuses
        self.overloaded = overloaded
        self.lacks = lacks
        self.metrics = metrics

    def __repr__(self) -> str:
        return f"<EngineDialect {self.name}>"

    def at(self, health: str) -> "EngineDialect":
        """The same with another health path."""
        return EngineDialect(
            self.name,
            health=health,
            version=self.version,
            reuse_s=self.reuse_s,
            statuses=self.statuses,
            overloaded=self.overloaded,
            metrics=self.metrics,
            lacks=self.lacks,
        )


# What is said of the request itself. Any other 4xx no engine says of a body: not allowed, not
# found, too slow, or another service altogether.
OF_REQUEST: Final = (400, 413, 414, 415, 422, 429, 431)
TOO_LONG: Final = (400, 413)  # what engines answer to a prompt that is too long for them
LONGEST_PAUSE_S: Final = 300.0  # a longer one is not believed
INVALID: Final = {422: 400}  # FastAPI and TGI say 422 where OpenAI's clients expect 400

VLLM: Final = EngineDialect(
    "vllm",
    reuse_s=REUSE_S,
    statuses=INVALID,
    metrics=EngineMetrics(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        kv_used="vllm:kv_cache_usage_perc",
        hits="vllm:prefix_cache_hits_total",
        queries="vllm:prefix_cache_queries_total",
        kv_tokens="vllm:cache_config_info",
        sleeping="vllm:engine_sleep_state",
    ),
)
SGLANG: Final = EngineDialect(
    "sglang",
    version="/get_server_info",
    reuse_s=REUSE_S,
    statuses=INVALID,
    lacks=frozenset((POOLING.name,)),
    metrics=EngineMetrics(  # only with --enable-metrics
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        kv_used="sglang:token_usage",
        hits="sglang:cached_tokens_total",
        queries="sglang:prompt_tokens_total",
        kv_tokens="sglang:max_total_num_tokens",
    ),
)
TGI: Final = EngineDialect(
    "tgi",
    version="/info",
    reuse_s=REUSE_S,  # hyper states no limit; a balancer before it may have one
    statuses=INVALID | {424: 502},  # 424: generation failed
    # Inside a stream TGI's code for overload is 422, the same as for a client's mistake.
    overloaded="overloaded",
    lacks=frozenset(e.name for e in ALL if e not in (CHAT, COMPLETIONS)),
    metrics=EngineMetrics(running="tgi_batch_current_size", waiting="tgi_queue_size"),
)
# For pools whose engine the configuration does not name: the rules of all engines together.
ANY: Final = EngineDialect(
    "any",
    reuse_s=REUSE_S,
    statuses=TGI.statuses,
    overloaded=TGI.overloaded,
    metrics=EngineMetrics(),
)
DIALECTS: Final = {dialect.name: dialect for dialect in (VLLM, SGLANG, TGI)}


def metric_names(engine: str | None) -> tuple[EngineMetrics, ...]:
    """The names that an engine's metrics may have, the likeliest first; `None`: of any engine."""
    if engine is not None and engine in DIALECTS:
        return (DIALECTS[engine].metrics,)
    return tuple([dialect.metrics for dialect in DIALECTS.values()])


def dialects(upstreams: Mapping[str, Upstream]) -> dict[str, EngineDialect]:
    """The dialects by pool, with the health path that the pool has."""
    return {
        pool: _dialect(upstream.engine, upstream.health) for pool, upstream in upstreams.items()
    }


def _dialect(engine: str | None, health: str | None) -> EngineDialect:
    dialect = ANY if engine is None else DIALECTS[engine]
    return dialect if health is None else dialect.at(health)


class EngineRefusal(UpstreamError):
    """A backend answered with an error.

    status: for the client. error: the error object that the client gets. pause_s: for how long the
    engine wants no requests, 0 if it said nothing of it. context: what it says of the length of the
    request, `None` if it refused it for anything else. paged: whether it came as a page or as text,
    and so not from an engine.
    """

    def __init__(
        self,
        status: int,
        error: dict[str, Any],
        *,
        pause_s: float = 0.0,
        context: ContextRefusal | None = None,
        paged: bool = False,
    ) -> None:
        retry_after_s = pause_s or (1.0 if status in (429, 503) else None)
        super().__init__(str(error.get("message")), retry_after_s=retry_after_s)
        self.status = status
        self.pause_s = pause_s
        self.context = context
        self.paged = paged
        self.kind = FailureKind.FULL if self.admission else FailureKind.ERROR
        self.error = error

    @property
    def admission(self) -> bool:
        """Whether the engine refused the request for lack of room: it did no work and did not
        fail."""
        return self.status in (429, 503)

    @property
    def retriable(self) -> bool:
        """Whether another backend may succeed; never after a mistake of the client."""
        return self.status >= 500 or self.status == 429 or self.doubtful

    @property
    def doubtful(self) -> bool:
        """Whether another backend must say whose fault it is: a wrong key or a model that is not
        there may be the client's mistake, or the backend's that was started with another. Engines
        say in JSON what is wrong with a body; a page may be that of any server."""
        if self.status == 400:
            return self.paged
        return 400 < self.status < 500 and self.status not in OF_REQUEST

    def body(self) -> bytes:
        return msgspec.json.encode({"error": self.error})


def refusal(
    status: int, body: bytes, dialect: EngineDialect = ANY, *, pause_s: float = 0.0
) -> EngineRefusal:
    """Read an error reply. vLLM sends an OpenAI error object, TGI a string as `error`, FastAPI
    `detail`, and balancers plain text or HTML. pause_s: what its `Retry-After` says."""
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        reply = None
    fields = reply if isinstance(reply, dict) else {}
    error = fields.get("error")
    status = dialect.statuses.get(status, status)
    context = context_refusal(body) if status in TOO_LONG else None
    if isinstance(error, dict) and "message" in error:
        return EngineRefusal(status, error, pause_s=pause_s, context=context)
    text = error or fields.get("detail") or fields.get("message") or body.decode(errors="replace")
    error_type = fields.get("error_type") or (
        "upstream_error" if status >= 500 else "invalid_request_error"
    )
    message = str(text)[:LONGEST_MESSAGE] or f"The backend answered {status}."
    error = {"message": message, "type": error_type, "param": None, "code": status}
    paged = reply is None and bool(body.strip())
    return EngineRefusal(status, error, pause_s=pause_s, context=context, paged=paged)


def pause_s(retry_after: bytes | None, wall_s: float) -> float:
    """The seconds that a `Retry-After` asks for, which has seconds or a date (RFC 9110 §10.2.3); 0
    if there is none or it cannot be read. wall_s: the time now, since 1970."""
    if retry_after is None:
        return 0.0
    text = retry_after.decode("latin-1").strip()
    try:
        seconds = (
            float(text) if text.isdigit() else parsedate_to_datetime(text).timestamp() - wall_s
        )
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, min(seconds, LONGEST_PAUSE_S))


def stream_refusal(error: bytes, dialect: EngineDialect = ANY) -> EngineRefusal:
    """Read an error event: vLLM and TGI report overload inside a stream whose status was 200.

    error: the error object as JSON.
    """
    refused = refusal(502, b'{"error":' + error + b"}", dialect)
    code = refused.error.get("code", refused.error.get("http_status_code"))
    status = 502
    if isinstance(code, int) and 400 <= code < 600:
        status = dialect.statuses.get(code, code)
    if dialect.overloaded is not None and dialect.overloaded in str(refused.error.get("message")):
        status = 503
    context = context_refusal(error) if status in TOO_LONG else None
    return EngineRefusal(status, refused.error, context=context)
