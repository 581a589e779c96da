"""The metrics of estimated sizes: how near they come, and what was learned for them."""

from collections.abc import Iterator, Mapping, Sequence

from gateway.telemetry import definitions as metric
from gateway.telemetry.exposition import Family, labelled
from gateway.telemetry.stats_schema import RATIO, Histogram, PoolStats

Figures = Sequence[tuple[str, str, float]]  # by model and something else


def estimates(by_pool: Mapping[tuple[str, str], PoolStats]) -> Family:
    """Estimated over actual tokens, by model and size. by_pool: by model and pool."""
    family = Family(metric.ESTIMATE)
    by_label: dict[tuple[str, str], Histogram] = {}
    for (model, _), stats in by_pool.items():
        for name, ratios in (("input", stats.input_estimate), ("output", stats.output_estimate)):
            by_label.setdefault((name, model), Histogram.none(RATIO)).add(ratios)
    for (name, model), ratios in by_label.items():
        if any(ratios.counts):
            labels = labelled(model=model, size=name)
            family.histogram(labels, RATIO, ratios.counts, ratios.seconds)
    return family


def learned(bytes_per_token: Figures, payload_tokens: Figures) -> Iterator[Family]:
    """What was learned, by model and endpoint, and by model and kind."""
    ratios, payload = Family(metric.BYTES_PER_TOKEN), Family(metric.PAYLOAD_TOKENS)
    for model, endpoint, value in bytes_per_token:
        ratios.add(labelled(endpoint=endpoint, model=model), round(value, 3))
    for model, kind, value in payload_tokens:
        payload.add(labelled(kind=kind, model=model), round(value, 1))
    yield from (ratios, payload)
