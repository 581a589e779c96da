"""What is said of a machine."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from gateway.config.load import Loaded, load
from gateway.inspection import machine
from gateway.inspection.examined import Severity
from planner.shipped import folder

ENOUGH = machine.HostMachine(
    cpus=8.0, memory_mib=64_000, files=1 << 20, ports=28_000, backlog=4096, data_path="compiled",
    optimised=True,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A machine that lacks something."""

    name: str
    outcome: Severity
    changes: dict[str, Any]


CASES = [
    Case("processors", Severity.WARNING, {"cpus": 1.5}),
    Case("open files", Severity.ERROR, {"files": 512}),
    Case("open files", Severity.WARNING, {"files": 4096}),
    Case("memory", Severity.ERROR, {"memory_mib": 100}),
    Case("memory", Severity.NOTE, {"memory_mib": 700}),
    Case("data path", Severity.WARNING, {"data_path": "interpreted"}),
    Case("data path", Severity.ERROR, {"stale": 3}),
    Case("Python", Severity.NOTE, {"optimised": False}),
    Case("outgoing ports", Severity.WARNING, {"ports": 500}),
    Case("backlog", Severity.WARNING, {"backlog": 128}),
]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    one = load(folder() / "demo.yaml")
    gateway = msgspec.structs.replace(one.config.gateway, workers=2)
    config = msgspec.structs.replace(one.config, gateway=gateway)
    return msgspec.structs.replace(one, config=config)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.outcome.name}")
def test_what_a_machine_lacks(loaded: Loaded, case: Case):
    """One line for it, and no other for the worse."""
    found = [
        one
        for one in machine.of_machine(ENOUGH._replace(**case.changes), loaded)
        if one.outcome is not Severity.FINE
    ]

    assert [(one.name, one.outcome) for one in found] == [(case.name, case.outcome)]
    assert found[0].hint


def test_a_machine_with_enough_of_all(loaded: Loaded):
    """Nothing but fine lines; and this machine can be read."""
    assert {one.outcome for one in machine.of_machine(ENOUGH, loaded)} == {Severity.FINE}
    assert machine.here().cpus > 0


def test_a_clock_that_differs():
    """By the nearest of several clocks, in whole seconds."""
    date = "Sun, 06 Nov 1994 08:49:37 GMT"  # RFC 9110, 5.6.7
    at_s = 784111777.0

    [right] = machine.of_clock(at_s + 1, {"a": date})
    [wrong] = machine.of_clock(at_s - 60, {"a": date, "b": "nonsense"})

    assert right.outcome is Severity.FINE
    assert (wrong.outcome, wrong.text) == (Severity.WARNING, "it is 60 s behind that of a")
    assert list(machine.of_clock(at_s, {})) == []


def test_files_that_cannot_be_written(tmp_path, loaded: Loaded):
    """A folder that is not there, and a disk without room."""
    assert machine.writing_fault(tmp_path / "journal.jsonl") is None
    assert machine.writing_fault(tmp_path / "no" / "journal.jsonl") == "its folder is not there"
    [line] = machine.of_disk(msgspec.structs.replace(loaded, journal=tmp_path / "no" / "j"))
    assert line.outcome is Severity.ERROR
