"""The `/metrics` pages of SGLang and TGI, of what the emulated engine counts. Knows no HTTP.

Names, types and labels are those of SGLang 0.5 with `--enable-metrics` and of TGI 3.3, as far as
the emulated engine knows the values.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from loadtest.emulator.buckets import BucketCounts
from loadtest.emulator.metrics import VllmMetrics


class SglangMetrics(Collector):
    """The page of an SGLang with one scheduler."""

    def __init__(self, counted: VllmMetrics) -> None:
        self._counted = counted
        self._labels = {
            "engine_type": "unified", "model_name": counted.served.name, "pp_rank": "0",
            "tp_rank": "0",
        }  # fmt: skip
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def page(self) -> bytes:
        """The page as Prometheus reads it."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The families of the page; prometheus_client calls it at each scrape."""
        counted, engine = self._counted, self._counted.engine
        hits, queries = counted.hits
        for name, value in (
            ("num_running_reqs", engine.running),
            ("num_queue_reqs", counted.waiting),
            ("num_used_tokens", round(engine.kv_used * counted.kv_tokens)),
            ("token_usage", engine.kv_used),
            ("max_total_num_tokens", counted.kv_tokens),
            ("cache_hit_rate", hits / queries if queries else 0.0),
        ):
            yield self._family(GaugeMetricFamily, name, value)
        for name, value in (
            ("prompt_tokens", engine.prompt_tokens),
            ("generation_tokens", engine.generation_tokens),
            ("num_requests", sum(counted.finished.values())),
        ):
            yield self._family(CounterMetricFamily, name, value)
        yield self._family(CounterMetricFamily, "cached_tokens", hits, cache_source="device")
        for name, counts in (
            ("time_to_first_token_seconds", counted.ttft),
            ("inter_token_latency_seconds", counted.inter_token),
            ("e2e_request_latency_seconds", counted.e2e),
            ("queue_time_seconds", counted.phases["queue"]),
        ):
            text = name.replace("_", " ").capitalize()
            family = HistogramMetricFamily(f"sglang:{name}", text, labels=tuple(self._labels))
            buckets, total = counts.export()
            family.add_metric(tuple(self._labels.values()), buckets, total)
            yield family

    def _family(
        self,
        kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
        name: str,
        value: float,
        **more: str,
    ) -> Metric:
        labels = self._labels | more
        text = name.replace("_", " ").capitalize()
        family = kind(f"sglang:{name}", text, labels=tuple(labels))
        family.add_metric(tuple(labels.values()), value)
        return family


class TgiMetrics:
    """The page of a TGI. It is written by hand, because TGI's counters have no `_total`."""

    def __init__(self, counted: VllmMetrics) -> None:
        self._counted = counted

    def page(self) -> bytes:
        """The page as Prometheus reads it."""
        counted, engine = self._counted, self._counted.engine
        ended = sum(counted.finished.values())
        lines: list[str] = []
        for name, value in (
            ("tgi_queue_size", counted.waiting),
            ("tgi_batch_current_size", engine.running),
            ("tgi_batch_current_max_tokens", round(engine.kv_used * counted.kv_tokens)),
        ):
            lines += [f"# TYPE {name} gauge", f"{name} {value}"]
        for name, value in (
            ("tgi_request_count", counted.received),
            ("tgi_request_success", ended),
        ):
            lines += [f"# TYPE {name} counter", f"{name} {value}"]
        for name, counts in self._histograms().items():
            lines += _histogram(name, counts)
        return ("\n".join(lines) + "\n").encode()

    def _histograms(self) -> Mapping[str, BucketCounts]:
        counted = self._counted
        return {
            "tgi_request_duration": counted.e2e,
            "tgi_request_queue_duration": counted.phases["queue"],
            "tgi_request_inference_duration": counted.phases["inference"],
            "tgi_request_mean_time_per_token_duration": counted.tpot,
            "tgi_request_input_length": counted.sizes["request_prompt_tokens"],
            "tgi_request_generated_tokens": counted.sizes["request_generation_tokens"],
            "tgi_request_max_new_tokens": counted.sizes["request_params_max_tokens"],
        }


def _histogram(name: str, counts: BucketCounts) -> list[str]:
    buckets, total = counts.export()
    lines = [f"# TYPE {name} histogram"]
    lines += [f'{name}_bucket{{le="{bound}"}} {count:.0f}' for bound, count in buckets]
    return [*lines, f"{name}_sum {total}", f"{name}_count {buckets[-1][1]:.0f}"]


# By the engine that is emulated; every other one is a vLLM.
PAGES: dict[str, Callable[[VllmMetrics], SglangMetrics | TgiMetrics]] = {
    "sglang": SglangMetrics,
    "tgi": TgiMetrics,
}
