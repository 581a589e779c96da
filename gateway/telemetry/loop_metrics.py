"""The metrics of the loops of the control plane: when each last went well, and its failures."""

from collections.abc import Iterator

from gateway.telemetry import control_definitions as control
from gateway.telemetry.exposition import Family, labelled
from gateway.telemetry.loops import Loops


def loop_families(loops: Loops) -> Iterator[Family]:
    """All loops that have run."""
    good, failures, failing = (
        Family(control.LOOP_GOOD),
        Family(control.LOOP_FAILURES),
        Family(control.LOOP_FAILING),
    )
    for name, record in loops.records.items():
        labels = labelled(loop=name)
        if record.good_at_s is not None:
            good.add(labels, record.good_at_s)
        failures.add(labels, record.failures)
        failing.add(labels, int(record.error is not None))
    yield from (good, failures, failing)
