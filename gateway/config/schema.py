"""The sections of the configuration file: keys, types, domains, defaults and meanings. Data only.

The text below each key is its documentation: `gateway/config/reference.py` makes a page of it. What
depends on several keys is checked in `load`; a promise, a pool and the limits check themselves.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.config.access_schema import AccessSection, TlsSection
from gateway.config.cluster_schema import ClusterSection
from gateway.config.domains import (
    ADMIN_PORT,
    Count,
    CountOrZero,
    Edge,
    HeaderName,
    NotNegative,
    Origin,
    Port,
    Positive,
    Share,
)
from gateway.config.otel_schema import OtelSection
from gateway.config.pool_schema import PoolSection
from gateway.config.record_schema import JournalSection, TraceSection
from gateway.config.scaling_schema import ScalingSection
from gateway.config.weights_schema import WeightsSection


class SloSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A latency promise."""

    ttft_s: float
    """Time to first token, seconds."""
    tpot_s: float
    """Time per output token after the first, seconds."""
    attainment: float = 0.99
    """Share of requests that must meet both."""


class ModelSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model, under the name that clients send."""

    slo: SloSection
    """Its latency promise: that of the SLO class `default`."""
    classes: dict[str, SloSection] = {}
    """Further SLO classes by name; a request chooses one with the header `x-cuvee-slo-class`."""
    bytes_per_token: Positive = 4.0
    """Where the estimate of prompt tokens starts; learned from the backends' replies."""
    tokenizer: str | None = None
    """The model's `tokenizer.json`, relative to this file: prompts are counted with it instead of
    estimated by their bytes, in a thread of each worker. A prompt that is not counted within 50 ms,
    or is longer than 192 KiB, is estimated. Needs the extra `tokenizers`.
    """
    split_lists: bool = False
    """Whether a list of prompts (embeddings, or completions that do not stream) that is too wide
    for the promise is served in parts that are not: each is a request of its own, also to metrics
    and logs, and the answers are joined. Otherwise it is served whole, without a promise.
    """
    aliases: tuple[str, ...] = ()
    """Further names that clients may use. The engines never see them; the answer has the name that
    the client used.
    """
    adapters: tuple[str, ...] = ()
    """Names of adapters (LoRA) of this model. A request for one is a request for this model, with
    its promises and its load; it goes to pools whose engines have the adapter.
    """


class BucketSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The grid of estimated sizes: log-spaced edges, in tokens."""

    input_from: Edge = 64
    """First edge of input tokens; smaller prompts belong to the first bucket."""
    input_to: Edge = 8192
    """Last edge of input tokens; larger prompts belong to the last bucket."""
    output_from: Edge = 16
    """First edge of output tokens."""
    output_to: Edge = 1024
    """Last edge of output tokens."""
    per_octave: Annotated[int, Meta(ge=1, le=8, description="1 to 8")] = 1
    """Edges per doubling."""


class PlannerSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When and how the gateway plans again."""

    objective: Literal["provision", "assign"] = "assign"
    """`assign` spreads load over all running backends; `provision` uses the cheapest set of them.
    """
    workload: str | None = None
    """Trace CSV that the first plan is made for; default: no demand known."""
    interval_s: Positive = 10.0
    """Seconds between two looks at the demand."""
    window_s: Positive = 120.0
    """Seconds of arrivals that the rates are averaged over."""
    memory_s: Positive = 900.0
    """Half-life of what is remembered of actual sizes."""
    dispersion: Positive = 1.5
    """Burstiness (index of dispersion of counts) assumed until it is measured."""
    correction: bool = True
    """Whether plans count with the pace that was observed where it is known, instead of with the
    profiles as they are: with times between 0.5 and 3 times as long.
    """
    min_requests: Count = 50
    """Requests in the window below which the demand is not trusted. Where the whole window was
    observed, `provision` then plans for the remembered sizes at the rate of the window.
    """
    min_saving: NotNegative = 0.05
    """How much cheaper (provision) or less loaded (assign) a plan must be to replace one that
    holds.
    """
    patience: Count = 6
    """So many looks in a row must find a plan that is better by `min_saving`, before it replaces
    the plan in force.
    """
    certify_cpu_s: NotNegative = 60.0
    """Most CPU seconds of one search for the cheapest certified plan, in a process of low priority;
    0: no search, and no certificates. The search takes some 100 MiB while it lasts.
    """
    solve_limit_s: Positive = 5.0
    """A solve that takes longer is abandoned; the last good plan stays. The solver runs with low
    priority: on a machine whose cores are busy with requests, the same solve takes longer.
    """


class StockSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many GPUs of a type there are, over all pools and models."""

    gpu: str
    """GPU type, as in the profiles."""
    most: int
    """GPUs, not backends."""
    zone: str | None = None
    """Only in this zone; default: in all together."""


class SharedGpusSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GPUs on which engines of several pools live, of which those that are awake have them
    ([shared GPUs](fleet.md#shared-gpus)).
    """

    gpus: Count
    """How many there are, all hosts together."""
    usd_per_hour: NotNegative
    """Price of all of them: it is paid once, whichever engines are awake."""


class LimitsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What bounds a provisioned plan as a whole."""

    stock: tuple[StockSection, ...] = ()
    """GPUs that there are, by type and zone."""
    shared_gpus: dict[str, SharedGpusSection] = {}
    """GPUs that pools share, by a name that their `shared_gpus` has."""
    budget_usd_per_hour: float | None = None
    """Most that the plan may cost; then as much demand as possible is served."""
    survive: int = 0
    """Backends of any one pool that may fail while the SLO is kept."""
    start_usd: float = 0.0
    """Cost of starting a backend that is not running."""
    stop_usd: float = 0.0
    """Cost of stopping one that is."""
    horizon_h: float = 1.0
    """Hours within which such a change must pay for itself."""


class GatewaySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server and the data path."""

    host: str = "0.0.0.0"
    """Address to listen on."""
    port: Port = 8000
    """Port to listen on; 0 takes a free one."""
    workers: Count = 1
    """Processes that share the port; more than one need Linux. A supervisor beside them plans,
    probes, serves metrics and replaces one that dies.
    """
    admin_host: str = "127.0.0.1"
    """Address of the admin port: `/metrics`, `/cuvee/plan`, `/cuvee/reload`, `/livez`, `/readyz`.
    Set it to `0.0.0.0` where a scraper or a probe comes from another machine.
    """
    admin_port: Port = ADMIN_PORT
    """The admin port; 0 takes a free one, which the log tells."""
    tls: TlsSection | None = None
    """HTTPS on `port` instead of HTTP; default: HTTP."""
    admin_tls: TlsSection | None = None
    """HTTPS on `admin_port`; default: HTTP."""
    operator_paths: Literal["admin", "both"] = "admin"
    """Where `/metrics` and `/cuvee/...` are answered: on the admin port only, or on `port` too,
    where every client can read prices, plans and the names of backends.
    """
    session_header: HeaderName | None = "x-session-id"
    """Header by which a client names a conversation, whose requests go to one backend as far as all
    promises allow; so does `prompt_cache_key` in a body. `null`: none.
    """
    receipt: Literal["full", "request-id"] = "full"
    """What answers tell of their way: bucket, pool, backend, plan and decision in `x-cuvee-*`, or
    only `x-request-id`.
    """
    cors_origins: tuple[Origin, ...] = ()
    """Pages that may call from a browser: origins as `https://app.example`, or `*` for all."""
    max_body_bytes: Count = 33554432
    """Largest request body; a larger one gets 413."""
    buffer_bytes: Count | None = None
    """Most bytes of bodies that a worker has in memory at one time, over all clients: of requests,
    of replies that do not stream, and of what clients do not read. Beyond it, the unfinished upload
    that was idle for longest gets 503. Default: 16 times `max_body_bytes`.
    """
    withheld_headers: tuple[HeaderName, ...] = (
        "cookie",
        "x-data-parallel-host",
        "x-data-parallel-host-port",
        "x-data-parallel-rank",
        "x-prefiller-host-port",
        "x-prefiller-url",
    )
    """Headers of clients that no backend gets, besides hop-by-hop ones and `x-cuvee-*`: by default
    cookies, and headers by which engines and their sidecars would let a client choose a host.
    """
    connect_timeout_s: Positive = 2.0
    """To connect to a backend; then another one is tried."""
    first_byte_timeout_s: Positive = 120.0
    """From sending a request to the first output of a stream."""
    idle_timeout_s: Positive = 120.0
    """Longest silence inside a stream; engines can leave one open without a byte. One that is
    silent alone, while others of its backend go on, gets ten times as long: engines buffer the
    arguments of a tool call. One of a backend that probes no longer reach gets 2 s at most.
    """
    include_usage: bool = True
    """Whether streams are asked for their usage where the client does not; it does not see it."""
    sse_keepalive_s: Positive | None = None
    """Comments to a client that waits for its stream or hears nothing inside it, this often;
    default: none.
    """
    unary_timeout_s: Positive = 600.0
    """From sending a request to the whole reply, for requests that do not stream."""
    retries: CountOrZero = 2
    """Further backends tried, at most, when no connection to a backend can be made, or when it
    answers a 4xx that is not about the body (401, 403, 404, …), which another one may not. After an
    error (5xx other than 503), what is no answer, a timeout or a cut connection before the first
    byte the request is sent once more at most, because it may itself be the cause. A backend that
    says that it is full (429, 503) does not count.
    """
    warmup_s: NotNegative = 10.0
    """Seconds in which a backend that was down, or is new while the gateway runs, gets more and
    more of the requests that it could take; 0: all of them at once. So it does where fewer than
    half of its pool are warm, and when the gateway starts.
    """
    max_ejection_share: Share = 0.34
    """Largest share of a pool's healthy backends that get no requests for a while because requests
    fail there, or because their streams do not go on; at least one of two or more, unless it is 0.
    One client's bad requests make every backend fail that gets them, so the others stay in use. A
    backend that is down or cannot be reached gets none in any case.
    """
    queue_requests: CountOrZero = 512
    """Requests that may wait for their turn while no backend keeps their promise; the next one gets
    429, or takes the place of one that is served later. Each worker has an equal part of them.
    """
    queue_tokens: Count = 4000000
    """Tokens, prompts and answers, of the requests that may wait; each worker has an equal part."""
    queue_timeout_s: NotNegative = 30.0
    """Longest wait; then 429. A request with a promise waits no longer than its TTFT allows, and
    is refused at once if waiting cannot help.
    """
    caller_weights: dict[str, Positive] = {}
    """Weights of callers by id, as the request log has it; of the others 1. Callers have equal
    parts, in tokens, of what a class is given while it waits; of twice the weight, twice the part.
    """
    health_interval_s: Positive = 2.0
    """Seconds between two probes of each backend's `/health`, or its pool's `health_path`, which is
    to answer 200.
    """
    health_timeout_s: Positive = 2.0
    """A probe whose status takes longer marks the backend down."""
    scrape_interval_s: NotNegative = 2.0
    """Seconds between two questions to each engine for its `/metrics`: how much it has, of other
    clients too, and whether it sleeps ([operations](operations.md#other-clients-of-the-engines));
    0: it is not asked.
    """
    log_format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object for each line. The log goes to standard error. Lines
    that are not read in time are dropped and counted: the gateway never waits for its log.
    """
    request_log: Share = 0.0
    """Share of the requests about which the log has a line each: 0 none, 1 all, 0.01 every
    hundredth. Unless it is 0, a request that a backend or the gateway failed always has one. The
    fields are in [operations](operations.md#the-log); headers, bodies and keys are never logged.
    """
    trace: TraceSection | None = None
    """A trace of the traffic, for planning; default: none is written."""
    journal: JournalSection | None = None
    """Where the journal of decisions goes; default: the last ones are kept in memory only."""
    cluster: ClusterSection | None = None
    """Other gateways of the same fleet; default: there are none."""
    otel: OtelSection | None = None
    """Where traces and metrics of OpenTelemetry go; default: none are made."""
    drain_delay_s: NotNegative = 5.0
    """After SIGTERM: how long it still serves, not ready, so that balancers notice."""
    drain_s: NotNegative = 30.0
    """After that: how long running requests may finish; the others end in an error."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    models: dict[str, ModelSection]
    """The models served, by the name that clients send."""
    pools: dict[str, PoolSection]
    """The pools of backends, by a name of your own; receipts and metrics carry it."""
    prices: str | None = None
    """Prices of GPUs: a file, relative to this file, or a built-in name such as `aws-2026-07`;
    needed for pools without `usd_per_hour`. The format is in [profiles](profiles.md#prices).
    """
    buckets: BucketSection = BucketSection()
    """The grid of estimated sizes."""
    planner: PlannerSection = PlannerSection()
    """When and how the gateway plans again."""
    limits: LimitsSection = LimitsSection()
    """What bounds a provisioned plan as a whole."""
    scaling: ScalingSection = ScalingSection()
    """When pools that have `scale` get more or fewer backends."""
    weights: tuple[WeightsSection, ...] = ()
    """Routers of others that follow the plan."""
    gateway: GatewaySection = GatewaySection()
    """The server and the data path."""
    access: AccessSection | None = None
    """Who may use the gateway; default: everybody who reaches it."""
