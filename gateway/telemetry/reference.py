"""The page of metrics, made from their definitions. Knows no values.

`python -m gateway.telemetry.reference > docs/metrics.md`; a test keeps the two the same.
"""

from gateway.telemetry.definitions import METRICS, REQUEST, TPOT, TTFT
from gateway.telemetry.stats_schema import REQUEST_S, TPOT_S, TTFT_S

HEAD = """\
# Metrics

`/metrics` on the admin port (by default `http://127.0.0.1:8790/metrics`) answers in Prometheus'
text format, and as [OpenMetrics](observability.md#openmetrics) to whoever asks for that. With
several workers it shows all of them together: counters are summed, gauges of one worker carry its
number.
A backend's load and leases are totals over all workers, and over all gateways of a
[cluster](cluster.md).

This page is made from `gateway/telemetry/definitions.py`, by `python -m
gateway.telemetry.reference`.

| metric | type | labels | meaning |
|---|---|---|---|"""
LABELS = """\

## Labels

| label | values |
|---|---|
| `model` | as in `models` of the configuration |
| `pool` | as in `pools`; empty for a request that was never routed |
| `backend` | the pool's name and a number, as in the header `x-cuvee-backend` |
| `outcome` | `ok`, `shed` (no room), `failed` (a backend or the gateway), `abandoned` (the client \
left), `rejected` (the client's own mistake) |
| `class` | the SLO class: `default`, or as in `models.NAME.classes` |
| `met` | `yes`; `no` (late, or failed); `refused` (no room); `unknown` (the client left before \
it was late; or an answer that did not stream came without its number of tokens). A client's own \
mistake is not counted |
| `code` | HTTP status that the client saw; 499: it left |
| `reason` | the error's code, as in [HTTP API](http-api.md#errors); of a limit of a key \
`key_requests`, `key_tokens` or `insufficient_quota`; `no_api_key` for a 401 and \
`invalid_request_error` for a 400 without one. Of `cuvee_shed_total`: `late` (waited as long as \
the promise allows), \
`queue_too_long` (would have waited longer than that), `full` (may not wait), `queue_full` \
(displaced, or no place), or the code of a 503 |
| `kind` | `unreachable` (no connection), `broken` (cut or unreadable before its first byte), \
`timeout`, `cut` (a stream broke off), `error` (a 5xx of its own), `full` (429 or 503: no fault, \
never a reason to rest) |
| `result` | `replaced` (another plan is in force), `kept`, `idle` (too few requests to tell), \
`failed` (the log has the reason). Of `cuvee_trace_requests_total`: `written`, `lost`; of \
`cuvee_otel_requests_total`: `sent`, `lost`. Of \
`cuvee_scale_orders_total`: `accepted`, `refused` (for good), `failed` (it is tried again); of \
`cuvee_scale_launches_total`: `ready`, `hung` |
| `process` | `gateway`; with several workers `supervisor`, `worker-0`, …; and `solver` |
| `decision` | `planned`, `affinity`, `spill`, `best-effort`, as in the header `x-cuvee-decision` |
| `direction` | `input`, `output` |
| `gpu` | as in the profiles |
| `loop` | as in [operations](operations.md#the-loops) |
| `worker` | number of the worker process, from 0 |
"""


def reference() -> str:
    """The page."""
    rows = [
        f"| `{m.name}` | {m.metric_type} | {', '.join(f'`{label}`' for label in m.labels) or '–'} "
        f"| {m.help} |"
        for m in METRICS
    ]
    bounds = "".join(
        f"\nBuckets of `{m.name}`: " + ", ".join(f"{bound:g}" for bound in found) + "."
        for m, found in ((TTFT, TTFT_S), (TPOT, TPOT_S), (REQUEST, REQUEST_S))
    )
    return "\n".join([HEAD, *rows, bounds, LABELS])


if __name__ == "__main__":
    print(reference(), end="")
