"""The metrics of engines: what they said of themselves, and how long ago."""

from collections.abc import Iterator, Sequence

from gateway.telemetry import definitions as metric
from gateway.telemetry.engine_reading import EngineFigures, EngineReading
from gateway.telemetry.exposition import Family, labelled


def engines(figures: Sequence[EngineFigures]) -> Iterator[Family]:
    """What is known; a metric is missing where it is not."""
    foreign, age = Family(metric.ENGINE_FOREIGN), Family(metric.SCRAPE_AGE)
    failures = Family(metric.SCRAPE_FAILURES)
    gauges = {
        name: Family(definition)
        for name, definition in (
            ("running", metric.ENGINE_RUNNING),
            ("waiting", metric.ENGINE_WAITING),
            ("kv_used", metric.ENGINE_KV_USED),
            ("kv_tokens", metric.ENGINE_KV_TOKENS),
            ("sleeping", metric.ENGINE_SLEEPING),
        )
    }
    for one in figures:
        labels = labelled(backend=one.backend, pool=one.pool)
        failures.add(labels, one.failures)
        if one.age_s is not None:
            age.add(labels, round(one.age_s, 3))
        if one.state is None:
            continue
        foreign.add(labels, one.foreign)
        for name, value in _said(one.state):
            if value is not None:
                gauges[name].add(labels, value)
    yield from (*gauges.values(), foreign, age, failures)


def _said(state: EngineReading) -> Iterator[tuple[str, float | None]]:
    yield "running", state.running
    yield "waiting", state.waiting
    yield "kv_used", state.kv_used
    yield "kv_tokens", state.kv_tokens
    yield "sleeping", None if state.sleeping is None else int(state.sleeping)
