"""Every metric that is shown: name, type, labels and meaning; those of the control plane are in
`control_definitions`. Data only.

`docs/metrics.md` is made from it (`python -m gateway.telemetry.reference`).
"""

from gateway.telemetry import control_definitions as control
from gateway.telemetry.metric import Metric, metrics_in

REQUESTS = Metric(
    "cuvee_requests_total", "counter", "Requests, by how they ended.", ("model", "outcome", "pool")
)
SLO = Metric(
    "cuvee_slo_total",
    "counter",
    "Requests, by whether the promise of their SLO class was kept. An answer that does not stream "
    "shows no first token: it is held to TTFT + TPOT · (tokens - 1) for the whole.",
    ("class", "met", "model", "pool"),
)
RESPONSES = Metric(
    "cuvee_responses_total",
    "counter",
    "Requests, by the HTTP status of their answer; a stream that broke counts as the error in it.",
    ("class", "code", "model"),
)
DECISIONS = Metric(
    "cuvee_decisions_total",
    "counter",
    "Requests that were routed, by decision; `planned` and `affinity` kept to the plan.",
    ("decision", "model", "pool"),
)
RETRIES = Metric(
    "cuvee_retries_total",
    "counter",
    "Attempts that were made after an earlier attempt of the same request failed or was refused "
    "for lack of room.",
    ("model",),
)
REFUSALS = Metric(
    "cuvee_refusals_total",
    "counter",
    "Requests that the gateway itself answered with an error before it knew their model and size; "
    "no other metric counts them.",
    ("code", "reason"),
)
SHEDS = Metric(
    "cuvee_shed_total",
    "counter",
    "Requests that were refused for lack of room, or of a live backend.",
    ("class", "model", "reason"),
)
QUEUE = Metric(
    "cuvee_queue_seconds",
    "histogram",
    "Time in the queue, of the requests that had to wait for their turn, served or not.",
    ("class", "model"),
)
FAILURES = Metric(
    "cuvee_backend_failures_total",
    "counter",
    "Attempts that a backend failed, whether another backend then served the request or not.",
    ("backend", "kind", "pool"),
)
EJECTIONS = Metric(
    "cuvee_backend_ejections_total",
    "counter",
    "Times that a worker gave a backend no more requests for a while, by the last failure before.",
    ("backend", "kind", "pool"),
)
TOKENS = Metric(
    "cuvee_tokens_total",
    "counter",
    "Tokens of the requests that ended well, as the engines counted them.",
    ("direction", "model", "pool"),
)
CACHED_TOKENS = Metric(
    "cuvee_cached_tokens_total",
    "counter",
    "Prompt tokens that engines had computed for earlier requests (prefix hits), as far as they "
    "say so; divided by `cuvee_tokens_total` of the direction `input` it is the share of hits.",
    ("model", "pool"),
)
ESTIMATE = Metric(
    "cuvee_estimate_ratio",
    "histogram",
    "Tokens of a request as estimated when it came, over those that the engine counted: of the "
    "prompt (1.0 is exact; prompts that come as token ids are not estimated), and of one answer "
    "(the estimate is the median of answers to such requests).",
    ("model", "size"),
)
BYTES_PER_TOKEN = Metric(
    "cuvee_bytes_per_token",
    "gauge",
    "Bytes of text for each prompt token, as learned from all callers. Each caller has its own, "
    "which starts there.",
    ("endpoint", "model"),
)
PAYLOAD_TOKENS = Metric(
    "cuvee_payload_tokens",
    "gauge",
    "Prompt tokens that one picture, sound, video or file counts, as learned.",
    ("kind", "model"),
)
TTFT = Metric(
    "cuvee_ttft_seconds",
    "histogram",
    "Time to the first token, from the request's arrival at the gateway; of answers that do not "
    "stream, only where the whole is one token or an embedding.",
    ("model", "pool"),
)
TPOT = Metric(
    "cuvee_tpot_seconds",
    "histogram",
    "Time per output token after the first one; of each choice, where there are several.",
    ("model", "pool"),
)
REQUEST = Metric(
    "cuvee_request_seconds",
    "histogram",
    "Time to the end of a whole answer, from the request's arrival at the gateway.",
    ("model", "pool"),
)
IN_FLIGHT = Metric(
    "cuvee_in_flight",
    "gauge",
    "Sequences that the backend holds now: one for each prompt and choice of a request; most "
    "requests are one. Where several pools have its URL, those of all of them.",
    ("backend", "pool"),
)
LOAD = Metric(
    "cuvee_load",
    "gauge",
    "Load that the backend holds now; 1.0 is as much as keeps the SLO.",
    ("backend", "pool"),
)
BACKEND_UP = Metric(
    "cuvee_backend_up",
    "gauge",
    "1 if the last health probe of the backend was good, else 0.",
    ("backend", "pool"),
)
BACKEND_PACE = Metric(
    "cuvee_backend_pace",
    "gauge",
    "Time that requests stayed in the backend over the time that its profile expects at the same "
    "load and sizes; 1.2: everything takes a fifth longer.",
    ("backend", "pool"),
)
POOL_PACE = Metric(
    "cuvee_pool_pace",
    "gauge",
    "The same of the pool, without backends far from its median; between 0.5 and 3, as plans count "
    "with it.",
    ("pool",),
)
ENGINE_RUNNING = Metric(
    "cuvee_engine_running",
    "gauge",
    "Sequences in the engine's batch, of all its clients, as it says itself. This and the other "
    "metrics of engines are missing where the engine does not say so, or has not lately.",
    ("backend", "pool"),
)
ENGINE_WAITING = Metric(
    "cuvee_engine_waiting", "gauge", "Sequences in the engine's queue.", ("backend", "pool")
)
ENGINE_KV_USED = Metric(
    "cuvee_engine_kv_used", "gauge", "Share of the KV cache in use, 0 to 1.", ("backend", "pool")
)
ENGINE_KV_TOKENS = Metric(
    "cuvee_engine_kv_tokens", "gauge", "Tokens that fit into the KV cache.", ("backend", "pool")
)
ENGINE_SLEEPING = Metric(
    "cuvee_engine_sleeping", "gauge", "1 if the engine sleeps, else 0.", ("backend", "pool")
)
ENGINE_FOREIGN = Metric(
    "cuvee_engine_foreign", "gauge", "Sequences of other clients.", ("backend", "pool")
)
SCRAPE_AGE = Metric(
    "cuvee_scrape_age_seconds",
    "gauge",
    "Seconds since the engine's metrics were read last; missing if they never were.",
    ("backend", "pool"),
)
SCRAPE_FAILURES = Metric(
    "cuvee_scrape_failures_total",
    "counter",
    "Times that the engine's metrics could not be read; the log has the reason.",
    ("backend", "pool"),
)
RESTING = Metric(
    "cuvee_backend_resting",
    "gauge",
    "Workers whose circuit breaker of the backend is open or half-open: they give it no requests, "
    "or one on trial.",
    ("backend", "pool"),
)
QUEUED = Metric(
    "cuvee_queued_requests", "gauge", "Requests that wait for a backend with room.", ("worker",)
)
QUEUED_TOKENS = Metric(
    "cuvee_queued_tokens",
    "gauge",
    "Tokens of these, prompts and answers, as estimated.",
    ("worker",),
)
CONNECTIONS = Metric(
    "cuvee_client_connections", "gauge", "Open connections of clients.", ("worker",)
)
EVICTED = Metric(
    "cuvee_client_connections_evicted_total",
    "counter",
    "Connections of clients that were closed to make room for others.",
    ("worker",),
)
BACKEND_CONNECTIONS = Metric(
    "cuvee_backend_connections", "gauge", "Open connections to backends.", ("worker",)
)
LAG = Metric(
    "cuvee_loop_lag_seconds",
    "histogram",
    "How late timers fire in the workers, five times a second in each: what else the event loop "
    "did then.",
)
RETRY_BUDGET = Metric(
    "cuvee_retry_budget", "gauge", "Retries that the worker may still make now.", ("worker",)
)
BREAKERS_OPEN = Metric(
    "cuvee_breakers_open",
    "gauge",
    "Backends that answer probes but get no requests, because requests failed there.",
    ("worker",),
)
WORKERS = Metric("cuvee_workers", "gauge", "Worker processes that serve.")
WORKERS_REPLACED = Metric(
    "cuvee_workers_replaced_total", "counter", "Worker processes that died and were replaced."
)
LOG_DROPPED = Metric(
    "cuvee_log_lines_dropped_total",
    "counter",
    "Lines of the log that were dropped because nobody took them in time.",
    ("process",),
)
TRACED = Metric(
    "cuvee_trace_requests_total",
    "counter",
    "Requests for the trace (`gateway.trace`), by whether they are in it: those that are lost were "
    "too many at one time, or the file could not be written.",
    ("result",),
)
OTEL = Metric(
    "cuvee_otel_requests_total",
    "counter",
    "Requests that were traced (`gateway.otel`), by whether the collector has their spans: those "
    "that are lost were too many while it did not answer, or it refused them.",
    ("result",),
)
BUILD = Metric("cuvee_build_info", "gauge", "Always 1.", ("data_path", "python", "version"))
# The names of Prometheus' client libraries.
PROCESS_CPU = Metric(
    "process_cpu_seconds_total",
    "counter",
    "CPU time of the process, of user and system.",
    ("process",),
)
PROCESS_MEMORY = Metric(
    "process_resident_memory_bytes", "gauge", "Resident memory of the process.", ("process",)
)
PROCESS_FILES = Metric(
    "process_open_fds", "gauge", "Open file descriptors of the process.", ("process",)
)
PROCESS_START = Metric(
    "process_start_time_seconds", "gauge", "Unix time at which the process started.", ("process",)
)

METRICS = (*metrics_in(globals()), *control.METRICS)
