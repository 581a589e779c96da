"""The `/metrics` page of an emulated vLLM: its names, labels and buckets. Knows nothing of HTTP.

Gauges and token counters are read from the engine at each scrape, so a token costs nothing.
"""

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from loadtest.emulator.prefix_cache import BLOCK_TOKENS, PrefixCache
from planner.engine.batching import Engine

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
# Upper bounds of the histograms in seconds, as vLLM 0.32 shows them.
TTFT_BOUNDS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
TOKEN_BOUNDS_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
E2E_BOUNDS_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


class SecondsHistogram:
    """Counts by bucket and a sum of seconds; observing many equal values costs as much as one."""

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, value_s: float, times: int = 1) -> None:
        """Count a value `times` times."""
        self._counts[bisect_left(self._bounds_s, value_s)] += times
        self._sum_s += value_s * times

    def export(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum, as prometheus_client takes them."""
        names = [*map(str, self._bounds_s), "+Inf"]
        total, buckets = 0, []
        for name, count in zip(names, self._counts, strict=True):
            total += count
            buckets.append((name, float(total)))
        return buckets, self._sum_s


class VllmMetrics(Collector):
    """All metrics of one emulated engine, in a registry of its own.

    finished: choices by finish reason. As on a real engine an aborted request is in none of them.
    ttft, inter_token, tpot, e2e: latencies by choice, in seconds.
    """

    def __init__(
        self, engine: Engine, model: str, kv_tokens: int, cache: PrefixCache | None = None
    ) -> None:
        self._engine = engine
        self._model = model
        self._kv_tokens = kv_tokens
        self._cache = cache
        self.finished = dict.fromkeys(FINISH_REASONS, 0)
        self.ttft = SecondsHistogram(TTFT_BOUNDS_S)
        self.inter_token = SecondsHistogram(TOKEN_BOUNDS_S)
        self.tpot = SecondsHistogram(TOKEN_BOUNDS_S)
        self.e2e = SecondsHistogram(E2E_BOUNDS_S)
        # Not the library's global registry: several emulators share a process.
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def page(self) -> bytes:
        """The page as Prometheus reads it."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The families of the page; prometheus_client calls it at each scrape."""
        engine = self._engine
        yield self._gauge("num_requests_running", "Requests in the batch.", engine.running)
        yield self._gauge("num_requests_waiting", "Requests in the queue.", engine.waiting)
        yield self._gauge("kv_cache_usage_perc", "KV usage, 1 is full.", engine.kv_used)
        yield self._counter("num_preemptions", "Preemptions.", engine.preemptions)
        yield self._counter("prompt_tokens", "Prompt tokens processed.", engine.prompt_tokens)
        yield self._counter("generation_tokens", "Tokens generated.", engine.generation_tokens)
        if self._cache is not None:
            queries, hits = self._cache.queries, self._cache.hits
            yield self._counter("prefix_cache_queries", "Prefix cache queries, tokens.", queries)
            yield self._counter("prefix_cache_hits", "Prefix cache hits, tokens.", hits)
        yield self._request_success()
        yield self._histogram("time_to_first_token_seconds", self.ttft)
        yield self._histogram("inter_token_latency_seconds", self.inter_token)
        yield self._histogram("request_time_per_output_token_seconds", self.tpot)
        yield self._histogram("e2e_request_latency_seconds", self.e2e)
        yield self._cache_config_info()

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=("engine", "model_name"))
        family.add_metric(("0", self._model), value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=("engine", "model_name"))
        family.add_metric(("0", self._model), value)
        return family

    def _histogram(self, name: str, histogram: SecondsHistogram) -> Metric:
        labels = ("engine", "model_name")
        text = name.replace("_", " ").capitalize() + "."
        family = HistogramMetricFamily(f"vllm:{name}", text, labels=labels)
        buckets, sum_s = histogram.export()
        family.add_metric(("0", self._model), buckets, sum_s)
        return family

    def _request_success(self) -> Metric:
        labels = ("engine", "finished_reason", "model_name")
        family = CounterMetricFamily("vllm:request_success", "Finished requests.", labels=labels)
        for reason, count in self.finished.items():
            family.add_metric(("0", reason, self._model), count)
        return family

    def _cache_config_info(self) -> Metric:
        """A gauge of 1 whose labels are the cache's configuration."""
        blocks = self._kv_tokens // BLOCK_TOKENS
        config = {
            "block_size": str(BLOCK_TOKENS),
            "enable_prefix_caching": str(self._cache is not None),
            "engine": "0",
            "gpu_memory_utilization": "0.9",
            "kv_cache_max_concurrency": str(self._kv_tokens / self._engine.longest),
            "kv_cache_size_tokens": str(self._kv_tokens),
            "num_gpu_blocks": str(blocks),
        }
        text = "Information of the LLMEngine CacheConfig"
        family = GaugeMetricFamily("vllm:cache_config_info", text, labels=tuple(config))
        family.add_metric(tuple(config.values()), 1.0)
        return family
