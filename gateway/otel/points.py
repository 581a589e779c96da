"""The `gen_ai` metrics as OTLP has them, made from what is counted anyway. Pure.

They are cumulative. What is counted does not tell endpoints apart, so the operation of all of them
is `inference`.
"""

from collections.abc import Iterator, Mapping, Sequence

from gateway.otel.attributes import Value, attributes
from gateway.otel.wire import double, doubles, integer, message, word, words
from gateway.telemetry.stats_schema import REQUEST_S, TPOT_S, TTFT_S, Bounds, PoolStats

NS = 1e9
OPERATION = "inference"
CUMULATIVE = 2
HISTOGRAM = 9  # field of a Metric
OF_A_POINT = 9  # its attributes
DURATION = ("gen_ai.server.request.duration", "s", "Time to the end of a whole answer.")
FIRST = ("gen_ai.server.time_to_first_token", "s", "Time to the first token of an answer.")
EACH = (
    "gen_ai.server.time_per_output_token", "s", "Time per output token after the first one.",
)  # fmt: skip
USAGE = ("gen_ai.client.token.usage", "{token}", "Tokens of requests, as the engines counted them.")

ByClass = Mapping[tuple[str, str, str], PoolStats]  # by model, SLO class and pool
Named = dict[str, Value | None]


class PointMaker:
    """Makes the metrics of one gateway."""

    def __init__(self, providers: Mapping[str, str], began_s: float) -> None:
        """providers: see `SpanMaker`. began_s: when counting began, Unix time."""
        self._providers = providers
        self._began_ns = round(began_s * NS)

    def __repr__(self) -> str:
        return f"<PointMaker since {self._began_ns} ns>"

    def metrics(self, resource: bytes, scope: bytes, by_class: ByClass, now_s: float) -> bytes:
        """A request of the metrics service. resource, scope: as `attributes` makes them. now_s:
        Unix time."""
        rows = [
            (self._named(model, slo_class, pool), stats)
            for (model, slo_class, pool), stats in by_class.items()
            if pool
        ]
        now_ns = round(now_s * NS)
        kinds = (
            (DURATION, REQUEST_S, [(n, s.duration) for n, s in rows]),
            (FIRST, TTFT_S, [(n, s.ttft) for n, s in rows]),
            (EACH, TPOT_S, [(n, s.tpot) for n, s in rows]),
        )
        found = []
        for what, bounds, histograms in kinds:
            points = [
                self._point(named, h.counts, h.seconds, bounds, now_ns)
                for named, h in histograms
                if any(h.counts)
            ]
            found.append(_metric(what, points))
        usage = [point for named, stats in rows for point in self._usage(named, stats, now_ns)]
        found.append(_metric(USAGE, usage))
        inside = message(1, scope) + b"".join(found)
        return message(1, message(1, resource) + message(2, inside))

    def _named(self, model: str, slo_class: str, pool: str) -> Named:
        return {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": self._providers.get(pool, "cuvee"),
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "cuvee.slo_class": slo_class,
            "cuvee.pool": pool,
        }

    def _usage(self, named: Named, stats: PoolStats, now_ns: int) -> Iterator[bytes]:
        """Sum and number only: how large single requests were is not counted here."""
        served = sum(count for (outcome, *_), count in stats.ends.items() if outcome == "ok")
        for kind, tokens in (("input", stats.input_tokens), ("output", stats.output_tokens)):
            if served and tokens:
                own = named | {"gen_ai.token.type": kind}
                yield self._point(own, (served,), float(tokens), (), now_ns)

    def _point(
        self, named: Named, counts: Sequence[int], total: float, bounds: Bounds, now_ns: int
    ) -> bytes:
        parts = [
            attributes(OF_A_POINT, named),
            word(2, self._began_ns),
            word(3, now_ns),
            word(4, sum(counts)),
            double(5, total),
        ]
        if bounds:
            parts += [words(6, counts), doubles(7, bounds)]
        return message(1, b"".join(parts))


def _metric(what: tuple[str, str, str], points: Sequence[bytes]) -> bytes:
    """A metric, as a field of ScopeMetrics; none without a point."""
    if not points:
        return b""
    name, unit, meaning = what
    told = message(1, name.encode()) + message(2, meaning.encode()) + message(3, unit.encode())
    histogram = b"".join(points) + integer(2, CUMULATIVE)
    return message(2, told + message(HISTOGRAM, histogram))
