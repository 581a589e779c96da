"""The metrics of what engines publish of their prefix caches."""

from collections.abc import Iterator, Sequence

from gateway.telemetry import control_definitions as control
from gateway.telemetry.exposition import Family, labelled
from gateway.telemetry.kv_reading import KvFigures


def kv_families(figures: Sequence[KvFigures]) -> Iterator[Family]:
    """All backends that are to publish; tokens where they are known."""
    connected, held = Family(control.KV_CONNECTED), Family(control.KV_HELD)
    events, gaps = Family(control.KV_EVENTS), Family(control.KV_GAPS)
    for one in figures:
        labels = labelled(backend=one.backend, pool=one.pool)
        connected.add(labels, int(one.connected))
        events.add(labels, one.events)
        gaps.add(labels, one.gaps)
        if one.held_tokens is not None:
            held.add(labels, one.held_tokens)
    yield from (connected, held, events, gaps)
