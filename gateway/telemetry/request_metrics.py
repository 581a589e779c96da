"""The metrics of requests: how they ended, how long they took, what their classes were promised."""

from collections.abc import Iterator

from gateway.telemetry import definitions as metric
from gateway.telemetry.exemplars import Exemplars
from gateway.telemetry.exposition import Family, labelled
from gateway.telemetry.stats_schema import REQUEST_S, TPOT_S, TTFT_S, PoolStats
from planner.model.buckets import BEST_EFFORT

ByPool = dict[tuple[str, str], PoolStats]  # by model and pool
ByClass = dict[tuple[str, str, str], PoolStats]  # by model, SLO class and pool


def summed(by_class: ByClass) -> ByPool:
    """The statistics of all classes of a model together."""
    by_pool: ByPool = {}
    for (model, _, pool), stats in by_class.items():
        by_pool.setdefault((model, pool), PoolStats.none()).add(stats)
    return by_pool


def promises(by_class: ByClass) -> Iterator[Family]:
    """What the clients of each SLO class got."""
    slo, responses = Family(metric.SLO), Family(metric.RESPONSES)
    sheds, queue = Family(metric.SHEDS), Family(metric.QUEUE)
    whole: dict[tuple[str, str], PoolStats] = {}
    codes: dict[tuple[str, str, int], int] = {}
    for (model, slo_class, pool), stats in by_class.items():
        kept = dict.fromkeys(("yes", "no"), 0)  # from the start, so that a rate is never missing
        for (_, status, met, _), count in stats.ends.items():
            kept[met] = kept.get(met, 0) + count
            code = model, slo_class, status
            codes[code] = codes.get(code, 0) + count
        kept.pop("", None)
        if slo_class == BEST_EFFORT:
            kept.clear()
        for met, count in kept.items():
            labels = {"class": slo_class, "met": met, "model": model, "pool": pool}
            slo.add(labelled(**labels), count)
        whole.setdefault((model, slo_class), PoolStats.none()).add(stats)
    for (model, slo_class), stats in whole.items():
        labels = {"class": slo_class, "model": model}
        for reason, count in stats.sheds.items():
            sheds.add(labelled(**labels, reason=reason), count)
        if any(stats.waited.counts):
            waited = stats.waited
            queue.histogram(labelled(**labels), REQUEST_S, waited.counts, waited.seconds)
    for (model, slo_class, status), count in codes.items():
        labels = {"class": slo_class, "code": str(status), "model": model}
        responses.add(labelled(**labels), count)
    yield from (slo, responses, sheds, queue)


def requests(by_pool: ByPool) -> Iterator[Family]:
    requests, decisions = Family(metric.REQUESTS), Family(metric.DECISIONS)
    retries, tokens = Family(metric.RETRIES), Family(metric.TOKENS)
    cached = Family(metric.CACHED_TOKENS)
    by_model: dict[str, int] = {}
    for (model, pool), stats in by_pool.items():
        outcomes: dict[str, int] = {}
        decided: dict[str, int] = {}
        for (outcome, _, _, decision), count in stats.ends.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
            decided[decision] = decided.get(decision, 0) + count
        decided.pop("", None)
        for outcome, count in outcomes.items():
            requests.add(labelled(model=model, outcome=outcome, pool=pool), count)
        for decision, count in decided.items():
            decisions.add(labelled(decision=decision, model=model, pool=pool), count)
        tokens.add(labelled(direction="input", model=model, pool=pool), stats.input_tokens)
        tokens.add(labelled(direction="output", model=model, pool=pool), stats.output_tokens)
        cached.add(labelled(model=model, pool=pool), stats.cached_tokens)
        by_model[model] = by_model.get(model, 0) + stats.retries
    for model, count in by_model.items():
        retries.add(labelled(model=model), count)
    yield from (requests, decisions, retries, tokens, cached)


def latencies(by_pool: ByPool, exemplars: Exemplars) -> Iterator[Family]:
    """The histograms of durations; a pool without a value has none."""
    kinds = [
        (Family(definition), bounds)
        for definition, bounds in (
            (metric.TTFT, TTFT_S), (metric.TPOT, TPOT_S), (metric.REQUEST, REQUEST_S)
        )
    ]  # fmt: skip
    for (model, pool), stats in by_pool.items():
        labels = labelled(model=model, pool=pool)
        found = (stats.ttft, stats.tpot, stats.duration)
        for (family, bounds), seconds in zip(kinds, found, strict=True):
            if any(seconds.counts):
                found_there = exemplars.of(model, pool, bounds)
                family.histogram(labels, bounds, seconds.counts, seconds.seconds, found_there)
    yield from (family for family, _ in kinds)
