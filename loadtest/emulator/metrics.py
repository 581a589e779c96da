"""The `/metrics` page of an emulated vLLM: its names, labels and buckets. Knows nothing of HTTP.

Gauges and token counters are read from the engine when somebody scrapes, so a token costs nothing.
"""

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from planner.engine.batching import Engine

BLOCK_TOKENS = 16
REASONS = ("stop", "length", "abort", "error", "repetition")
FIRST_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
TOKEN_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
REQUEST_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


class SecondsHistogram:
    """One histogram: counts per bucket and a sum; many equal values cost as much as one."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def export(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum."""
        names = [*map(str, self._bounds), "+Inf"]
        total, buckets = 0, []
        for name, count in zip(names, self._counts, strict=True):
            total += count
            buckets.append((name, float(total)))
        return buckets, self._sum


class VllmMetrics(Collector):
    """All metrics of one emulated engine, in a registry of its own."""

    def __init__(self, engine: Engine, model: str, kv_tokens: int) -> None:
        self._engine = engine
        self._model = model
        self._kv_tokens = kv_tokens
        self.finished = dict.fromkeys(REASONS, 0)
        self.first = SecondsHistogram(FIRST_S)
        self.gap = SecondsHistogram(TOKEN_S)
        self.per_token = SecondsHistogram(TOKEN_S)
        self.request = SecondsHistogram(REQUEST_S)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def page(self) -> bytes:
        """The page as Prometheus reads it."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        engine = self._engine
        yield self._gauge("num_requests_running", "Requests in the batch.", engine.running)
        yield self._gauge("num_requests_waiting", "Requests in the queue.", engine.waiting)
        yield self._gauge("kv_cache_usage_perc", "KV usage, 1 is full.", engine.kv_used)
        yield self._counter("num_preemptions", "Preemptions.", engine.preemptions)
        yield self._counter("prompt_tokens", "Prompt tokens processed.", engine.prompt_tokens)
        yield self._counter("generation_tokens", "Tokens generated.", engine.generation_tokens)
        yield self._successes()
        yield self._histogram("time_to_first_token_seconds", self.first)
        yield self._histogram("inter_token_latency_seconds", self.gap)
        yield self._histogram("request_time_per_output_token_seconds", self.per_token)
        yield self._histogram("e2e_request_latency_seconds", self.request)
        yield self._cache()

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=("engine", "model_name"))
        family.add_metric(("0", self._model), value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=("engine", "model_name"))
        family.add_metric(("0", self._model), value)
        return family

    def _histogram(self, name: str, spread: SecondsHistogram) -> Metric:
        labels = ("engine", "model_name")
        text = name.replace("_", " ").capitalize() + "."
        family = HistogramMetricFamily(f"vllm:{name}", text, labels=labels)
        buckets, total = spread.export()
        family.add_metric(("0", self._model), buckets, total)
        return family

    def _successes(self) -> Metric:
        labels = ("engine", "finished_reason", "model_name")
        family = CounterMetricFamily("vllm:request_success", "Finished requests.", labels=labels)
        for reason, count in self.finished.items():
            family.add_metric(("0", reason, self._model), count)
        return family

    def _cache(self) -> Metric:
        blocks = self._kv_tokens // BLOCK_TOKENS
        config = {
            "block_size": str(BLOCK_TOKENS),
            "enable_prefix_caching": "False",
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
