"""The `/metrics` page of an emulated vLLM: its names, labels and buckets. Knows nothing of HTTP.

Gauges and token counters are read from the engine at each scrape, so a token costs nothing.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from loadtest.emulator.buckets import (
    COUNT_BOUNDS,
    E2E_BOUNDS_S,
    TOKEN_BOUNDS_S,
    TTFT_BOUNDS_S,
    BucketCounts,
    size_bounds,
)
from loadtest.emulator.prefix_cache import BLOCK_TOKENS, PrefixCache
from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.served import EmulatedModel
from loadtest.emulator.slumber import Slumber
from planner.engine.batching import Engine

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


class VllmMetrics(Collector):
    """All metrics of one emulated engine, in a registry of its own.

    finished: sequences by finish reason. As on a real engine an aborted request is in none of them.
    ttft, inter_token, tpot, e2e: latencies by sequence, in seconds; phases: of parts of it; sizes:
    tokens and numbers. rejected: requests that the admission limit refused; received: the others.
    adapters: says whose requests run and whose wait.
    """

    def __init__(
        self,
        engine: Engine,
        served: EmulatedModel,
        kv_tokens: int,
        cache: PrefixCache | None = None,
        slumber: Slumber | None = None,
    ) -> None:
        self.engine = engine
        self.served = served
        self.kv_tokens = kv_tokens
        self._cache = cache
        self.finished = dict.fromkeys(FINISH_REASONS, 0)
        self.rejected = self.received = 0
        self.slumber = slumber or Slumber()
        self.adapters: Callable[[], tuple[Sequence[str], Sequence[str]]] = lambda: ((), ())
        self.ttft = BucketCounts(TTFT_BOUNDS_S)
        self.inter_token = BucketCounts(TOKEN_BOUNDS_S)
        self.tpot = BucketCounts(TOKEN_BOUNDS_S)
        self.e2e = BucketCounts(E2E_BOUNDS_S)
        sizes = size_bounds(served.max_model_len)
        phases = ("queue", "inference", "prefill", "decode")
        self.phases = {name: BucketCounts(E2E_BOUNDS_S) for name in phases}
        self.sizes = {
            "request_prompt_tokens": BucketCounts(sizes),
            "request_generation_tokens": BucketCounts(sizes),
            "request_prefill_kv_computed_tokens": BucketCounts(sizes),
            "request_params_max_tokens": BucketCounts(sizes),
            "request_max_num_generation_tokens": BucketCounts(sizes),
            "request_params_n": BucketCounts(COUNT_BOUNDS),
        }
        # Not the library's global registry: several emulators share a process.
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def page(self) -> bytes:
        """The page as Prometheus reads it."""
        return generate_latest(self._registry)

    def accepted(self, generation: GenerationRequest) -> None:
        """Count what a request asks for."""
        self.received += 1
        self.sizes["request_params_n"].observe(generation.answered)
        names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
        limits = (generation.body.get(name) for name in names)
        limit = next((limit for limit in limits if isinstance(limit, int)), None)
        if limit is not None:
            self.sizes["request_params_max_tokens"].observe(limit)

    def completed(
        self,
        generation: GenerationRequest,
        sequence: int,
        *,
        started_s: float,
        admitted_s: float,
        first_s: float,
        ended_s: float,
    ) -> None:
        """Count a sequence that has all its tokens. Times are on the engine's clock."""
        reason = generation.finish_reasons[sequence]
        # The engine knows no tools: for it a call of one is text that stops.
        self.finished["stop" if reason == "tool_calls" else reason] += 1
        prompt, output = generation.prompt_tokens[sequence], generation.output_tokens[sequence]
        cached = generation.cached_tokens[sequence] if generation.cached_tokens else 0
        self.e2e.observe(ended_s - started_s)
        if output > 1:
            self.tpot.observe((ended_s - first_s) / (output - 1))
        self.phases["queue"].observe(admitted_s - started_s)
        self.phases["inference"].observe(ended_s - admitted_s)
        self.phases["prefill"].observe(first_s - admitted_s)
        self.phases["decode"].observe(ended_s - first_s)
        self.sizes["request_prompt_tokens"].observe(prompt)
        self.sizes["request_generation_tokens"].observe(output)
        self.sizes["request_prefill_kv_computed_tokens"].observe(prompt - cached)

    def answered(self, generation: GenerationRequest) -> None:
        """Count a request whose last sequence has all its tokens."""
        longest = max(generation.output_tokens)
        self.sizes["request_max_num_generation_tokens"].observe(longest)

    @property
    def waiting(self) -> int:
        """Requests that wait for the engine, also while it sleeps."""
        return self.engine.waiting + self.slumber.waiting

    @property
    def hits(self) -> tuple[int, int]:
        """Prompt tokens from the prefix cache, and those that were looked up there."""
        return (0, 0) if self._cache is None else (self._cache.hits, self._cache.queries)

    def collect(self) -> Iterator[Metric]:
        """The families of the page; prometheus_client calls it at each scrape."""
        engine = self.engine
        yield self._gauge("num_requests_running", "Requests in the batch.", engine.running)
        yield self._gauge("num_requests_waiting", "Requests in the queue.", self.waiting)
        waiting = {"capacity": self.waiting, "deferred": 0}
        yield self._labelled("num_requests_waiting_by_reason", "reason", waiting, gauge=True)
        states = self.slumber.states
        yield self._labelled("engine_sleep_state", "sleep_state", states, gauge=True)
        yield self._gauge("kv_cache_usage_perc", "KV usage, 1 is full.", engine.kv_used)
        hits, queries = self.hits
        yield self._counter("prefix_cache_queries", "Prefix cache queries, tokens.", queries)
        yield self._counter("prefix_cache_hits", "Prefix cache hits, tokens.", hits)
        # There is no cache of another engine and none of pictures.
        for name in ("external_prefix_cache", "mm_cache"):
            yield self._counter(f"{name}_queries", "Queries, tokens.", 0)
            yield self._counter(f"{name}_hits", "Hits, tokens.", 0)
        yield self._counter("num_preemptions", "Preemptions.", engine.preemptions)
        yield self._counter("prompt_tokens", "Prompt tokens processed.", engine.prompt_tokens)
        computed = max(0, engine.prompt_tokens - hits)
        sources = {"local_compute": computed, "local_cache_hit": hits, "external_kv_transfer": 0}
        yield self._labelled("prompt_tokens_by_source", "source", sources)
        yield self._counter("prompt_tokens_cached", "Prompt tokens from a cache.", hits)
        yield self._counter("generation_tokens", "Tokens generated.", engine.generation_tokens)
        yield self._labelled("request_success", "finished_reason", self.finished)
        rejections = {"max_num_queued_reqs": self.rejected, "max_num_queued_tokens": 0}
        yield self._labelled("admission_rejections", "reason", rejections, engine=False)
        for name, counts in self.sizes.items():
            yield self._histogram(name, counts)
        yield self._histogram("time_to_first_token_seconds", self.ttft)
        yield self._histogram("inter_token_latency_seconds", self.inter_token)
        yield self._histogram("request_time_per_output_token_seconds", self.tpot)
        yield self._histogram("e2e_request_latency_seconds", self.e2e)
        for name, counts in self.phases.items():
            yield self._histogram(f"request_{name}_time_seconds", counts)
        yield self._cache_config_info()
        if self.served.loras:
            yield self._lora_info()

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=("engine", "model_name"))
        family.add_metric(("0", self.served.name), value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=("engine", "model_name"))
        family.add_metric(("0", self.served.name), value)
        return family

    def _labelled(
        self,
        name: str,
        label: str,
        values: Mapping[str, int],
        *,
        gauge: bool = False,
        engine: bool = True,
    ) -> Metric:
        """A family with one more label; engine: whether it has the label `engine` as well."""
        labels = sorted(("model_name", label, *(("engine",) if engine else ())))
        kind = GaugeMetricFamily if gauge else CounterMetricFamily
        family = kind(f"vllm:{name}", name.replace("_", " ").capitalize() + ".", labels=labels)
        for value, count in values.items():
            given = {"engine": "0", "model_name": self.served.name, label: value}
            family.add_metric([given[key] for key in labels], count)
        return family

    def _histogram(self, name: str, counts: BucketCounts) -> Metric:
        labels = ("engine", "model_name")
        text = name.replace("_", " ").capitalize() + "."
        family = HistogramMetricFamily(f"vllm:{name}", text, labels=labels)
        buckets, total = counts.export()
        family.add_metric(("0", self.served.name), buckets, total)
        return family

    def _cache_config_info(self) -> Metric:
        """A gauge of 1 whose labels are the cache's configuration."""
        blocks = self.kv_tokens // BLOCK_TOKENS
        config = {
            "block_size": str(BLOCK_TOKENS),
            "enable_prefix_caching": str(self._cache is not None),
            "engine": "0",
            "gpu_memory_utilization": "0.9",
            "kv_cache_max_concurrency": str(self.kv_tokens / self.engine.longest),
            "kv_cache_size_tokens": str(self.kv_tokens),
            "num_gpu_blocks": str(blocks),
        }
        text = "Information of the LLMEngine CacheConfig"
        family = GaugeMetricFamily("vllm:cache_config_info", text, labels=tuple(config))
        family.add_metric(tuple(config.values()), 1.0)
        return family

    def _lora_info(self) -> Metric:
        """Whose requests run and wait, in labels; the value is the time."""
        labels = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
        text = "Running stats on lora requests."
        family = GaugeMetricFamily("vllm:lora_requests_info", text, labels=labels)
        running, waiting = map(",".join, self.adapters())
        family.add_metric((str(len(self.served.loras)), running, waiting), time.time())
        return family
