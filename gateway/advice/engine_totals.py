"""What an engine has served since it began, read from its `/metrics` page. No I/O.

The names are a table with a row for each engine of `proxy/engines`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan

from planner.errors import InvalidValue
from planner.traffic.counted_sizes import CountedSizes

LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Ranks of one engine that each tell the same of the whole.
ALIKE = ("tp_rank", "pp_rank", "moe_ep_rank", "ep_rank")
MODEL = "model_name"
MOST_MODELS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficNames:
    """The names of an engine's metrics of what it has served; of several the first that it has.

    prompt, answer: histograms of tokens by request. ttft, tpot: of seconds. prompt_tokens,
    answer_tokens, requests: counters. hits, queries: counters of prompt tokens, found and looked up
    in the prefix cache. Empty where it has none.
    """

    prompt: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    ttft: tuple[str, ...] = ()
    tpot: tuple[str, ...] = ()
    prompt_tokens: tuple[str, ...] = ()
    answer_tokens: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    hits: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()


NAMES = {
    "vllm": TrafficNames(
        prompt=("vllm:request_prompt_tokens",),
        answer=("vllm:request_generation_tokens",),
        ttft=("vllm:time_to_first_token_seconds",),
        # Before 0.11 it had the second name, for gaps between tokens.
        tpot=("vllm:request_time_per_output_token_seconds", "vllm:time_per_output_token_seconds"),
        prompt_tokens=("vllm:prompt_tokens_total",),
        answer_tokens=("vllm:generation_tokens_total",),
        requests=("vllm:request_success_total",),
        hits=("vllm:prefix_cache_hits_total",),
        queries=("vllm:prefix_cache_queries_total",),
    ),
    "sglang": TrafficNames(  # the first two only with --collect-tokens-histogram
        prompt=("sglang:prompt_tokens_histogram",),
        answer=("sglang:generation_tokens_histogram",),
        ttft=("sglang:time_to_first_token_seconds",),
        tpot=("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        prompt_tokens=("sglang:prompt_tokens_total",),
        answer_tokens=("sglang:generation_tokens_total",),
        requests=("sglang:num_requests_total",),
        hits=("sglang:cached_tokens_total",),
        queries=("sglang:prompt_tokens_total",),
    ),
    "tgi": TrafficNames(  # it has no TTFT
        prompt=("tgi_request_input_length",),
        answer=("tgi_request_generated_tokens",),
        tpot=("tgi_request_mean_time_per_token_duration",),
        requests=("tgi_request_success",),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTotals:
    """What was served. engine: its name in the table. models: the names that requests have.
    requests: that ended; the others as of `TrafficNames`, `None` where the page does not say."""

    engine: str
    models: tuple[str, ...]
    requests: float
    prompt: CountedSizes | None
    answer: CountedSizes | None
    ttft: CountedSizes | None
    tpot: CountedSizes | None
    prompt_tokens: float | None
    answer_tokens: float | None
    hits: float | None
    queries: float | None

    def minus(self, before: "EngineTotals") -> "EngineTotals":
        """What was served since another moment; all of it where the engine began anew."""
        if before.engine != self.engine or before.requests > self.requests:
            return self
        return replace(
            self,
            requests=self.requests - before.requests,
            prompt=_less(self.prompt, before.prompt),
            answer=_less(self.answer, before.answer),
            ttft=_less(self.ttft, before.ttft),
            tpot=_less(self.tpot, before.tpot),
            prompt_tokens=_fewer(self.prompt_tokens, before.prompt_tokens),
            answer_tokens=_fewer(self.answer_tokens, before.answer_tokens),
            hits=_fewer(self.hits, before.hits),
            queries=_fewer(self.queries, before.queries),
        )


def read_totals(page: str) -> EngineTotals | None:
    """What a page says by the names of the first engine whose it is; `None` of no such page."""
    samples = _by_name(page)
    for engine, names in NAMES.items():
        prompt, answer = _histogram(samples, names.prompt), _histogram(samples, names.answer)
        requests = _counter(samples, names.requests)
        if requests is None and answer is not None:
            requests = answer.number
        if requests is None:
            continue
        if answer is not None and (engine != "sglang"):
            requests = answer.number  # aborted requests took their time, too
        return EngineTotals(
            engine=engine,
            models=_models(samples, (*names.requests, *names.prompt_tokens)),
            requests=requests,
            prompt=prompt,
            answer=answer,
            ttft=_histogram(samples, names.ttft),
            tpot=_histogram(samples, names.tpot),
            prompt_tokens=_counter(samples, names.prompt_tokens),
            answer_tokens=_counter(samples, names.answer_tokens),
            hits=_counter(samples, names.hits),
            queries=_counter(samples, names.queries),
        )
    return None


Samples = dict[str, list[tuple[dict[str, str], float]]]


def _by_name(page: str) -> Samples:
    found: Samples = {}
    for line in page.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        name, labels, number = _parts(line)
        try:
            value = float(number)
        except ValueError:
            continue
        if isnan(value) or value < 0 or any(labels.get(rank, "0") != "0" for rank in ALIKE):
            continue
        found.setdefault(name, []).append((labels, value))
    return found


def _parts(line: str) -> tuple[str, dict[str, str], str]:
    """Name, labels and number of a sample; a time may follow."""
    head, brace, rest = line.partition("{")
    if brace:
        labels, _, number = rest.rpartition("}")
        return head.strip(), dict(LABEL.findall(labels)), (number.split() or [""])[0]
    words = line.split()
    return words[0], {}, words[1] if len(words) > 1 else ""


def _counter(samples: Samples, names: Sequence[str]) -> float | None:
    for name in names:
        if name in samples:
            return sum(value for _, value in samples[name])
    return None


def _histogram(samples: Samples, names: Sequence[str]) -> CountedSizes | None:
    for name in names:
        below: dict[float, float] = {}
        for bound, value in _bounds(samples.get(f"{name}_bucket", [])):
            below[bound] = below.get(bound, 0.0) + value
        if inf not in below:
            continue
        total = sum(value for _, value in samples.get(f"{name}_sum", []))
        try:
            return CountedSizes.of(below, total)
        except InvalidValue:  # series of several bounds, or what is no histogram
            continue
    return None


def _bounds(rows: Sequence[tuple[dict[str, str], float]]) -> Iterator[tuple[float, float]]:
    for labels, value in rows:
        try:
            yield float(labels.get("le", "")), value
        except ValueError:
            continue


def _models(samples: Samples, names: Sequence[str]) -> tuple[str, ...]:
    found = {row[0][MODEL] for name in names for row in samples.get(name, []) if MODEL in row[0]}
    return tuple(sorted(found)[:MOST_MODELS])


def _less(now: CountedSizes | None, before: CountedSizes | None) -> CountedSizes | None:
    return now if now is None or before is None else now.minus(before)


def _fewer(now: float | None, before: float | None) -> float | None:
    if now is None or before is None or before > now:
        return now
    return now - before
