"""The page of metrics, made from their definitions. Knows no values.

`python -m gateway.telemetry.reference > docs/metrics.md`; a test keeps the two the same.
"""

from gateway.telemetry.definitions import METRICS
from gateway.telemetry.stats_schema import TPOT_S, TTFT_S

HEAD = """\
# Metrics

`/metrics` on the admin port (by default `http://127.0.0.1:8790/metrics`) answers in Prometheus'
text format. With several workers it shows all of them together: counters are summed, gauges of one
worker carry its number.
A backend's load and leases are totals over all workers.

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
| `decision` | `planned`, `spill`, `overload`, `best-effort`, as in the header `x-cuvee-decision` |
| `direction` | `input`, `output` |
| `worker` | number of the worker process, from 0 |
"""


def reference() -> str:
    """The page."""
    rows = [
        f"| `{m.name}` | {m.metric_type} | {', '.join(f'`{label}`' for label in m.labels) or '–'} "
        f"| {m.help} |"
        for m in METRICS
    ]
    bounds = (
        "\nBuckets of `cuvee_ttft_seconds`: " + ", ".join(f"{b:g}" for b in TTFT_S)
        + ".\nBuckets of `cuvee_tpot_seconds`: " + ", ".join(f"{b:g}" for b in TPOT_S) + "."
    )  # fmt: skip
    return "\n".join([HEAD, *rows, bounds, LABELS])


if __name__ == "__main__":
    print(reference(), end="")
