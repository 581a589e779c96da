"""The metrics of discovery: how old what sources told is, and how many backends they found."""

from collections.abc import Iterator, Mapping

from gateway.telemetry import control_definitions as control
from gateway.telemetry.exposition import Family, labelled


def discovered(
    sources: Mapping[str, tuple[float, int]], pools: Mapping[str, int]
) -> Iterator[Family]:
    """sources: age in seconds and failed looks, by source. pools: backends that were found."""
    ages, failures = Family(control.DISCOVERY_AGE), Family(control.DISCOVERY_FAILURES)
    for name, (age_s, failed) in sources.items():
        ages.add(labelled(source=name), round(age_s, 3))
        failures.add(labelled(source=name), failed)
    backends = Family(control.DISCOVERED)
    for name, count in pools.items():
        backends.add(labelled(pool=name), count)
    yield from (ages, failures, backends)
