"""What is said of a gateway that runs, by what its admin port says."""

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.inspection.admin_client import AdminReading
from gateway.inspection.examined import Examined, Severity, exit_code
from gateway.inspection.running import of_running
from gateway.inspection.samples import Samples

DOCS = Path(__file__).resolve().parents[3]
NOW_S = 1_800_000_000.0
WELL = """
# HELP cuvee_build_info Always 1.
cuvee_build_info{version="1",python="3.11",data_path="compiled"} 1
cuvee_backend_up{backend="a-0",pool="a"} 1
cuvee_backend_up{backend="a-1",pool="a"} 1
cuvee_config_last_reload_successful 1
cuvee_requests_total{model="m",outcome="ok",pool="a"} 1000
cuvee_responses_total{class="default",code="200",model="m"} 1000
cuvee_slo_total{class="default",met="yes",model="m",pool="a"} 995
cuvee_slo_total{class="default",met="no",model="m",pool="a"} 5
cuvee_decisions_total{decision="planned",model="m",pool="a"} 1000
cuvee_last_solve_timestamp_seconds 1799999990
cuvee_plan_looks_total{result="failed"} 0
cuvee_queued_requests{worker="0"} 0
cuvee_pool_pace{pool="a"} 1.02
cuvee_backend_pace{backend="a-0",pool="a"} 1.0
cuvee_tokens_total{direction="input",model="m",pool="a"} 1000
cuvee_loop_lag_seconds_bucket{le="0.01"} 99
cuvee_loop_lag_seconds_bucket{le="0.05"} 100
cuvee_loop_lag_seconds_bucket{le="+Inf"} 100
cuvee_discovery_age_seconds{source="file x"} 1
cuvee_cluster_up 1
cuvee_cluster_follows 1
cuvee_cluster_gateways 2
"""
VALUES: dict[str, Any] = {
    "/readyz": {"status": "ready", "unserved": [], "config_problems": []},
    "/cuvee/loops": {"loops": {"probes": {"good_at_s": NOW_S - 1, "failures": 0, "error": None}}},
    "/cuvee/plan": {
        "plan_id": "abc", "usd_per_hour": 9.0, "reason": "demand", "objective": "provision",
        "unserved": [], "certificate": {"holds": True, "attainment": 0.995},
    },
}  # fmt: skip


def found(page: str = "", **values: dict[str, Any]) -> list[Examined]:
    """What is said where these samples are in place of the well ones, or beside them, and these
    keys of the paths whose last word is the name."""
    names = {line.rpartition(" ")[0] for line in page.splitlines()}
    names |= {name.partition("{")[0] for name in names if name.startswith("cuvee_build_info")}
    kept = [
        line
        for line in WELL.splitlines()
        if not {line.rpartition(" ")[0], line.partition("{")[0]} & names
    ]
    told = {path: value | values.get(path.split("/")[-1], {}) for path, value in VALUES.items()}
    samples = Samples("\n".join([*kept, page]))
    reading = AdminReading("http://gateway", samples, told, NOW_S)
    return list(of_running(reading, {("m", "default"): 0.99}, "1"))


def loop(**changes: Any) -> dict[str, Any]:
    own = {"good_at_s": NOW_S, "failures": 1, "error": None} | changes
    return {"loops": {"scaling": own}}


FAULTS = [
    ("gateway", "warning", 'cuvee_build_info{version="1",data_path="interpreted"} 1', {}),
    ("ready", "error", "", {"readyz": {"status": "no backend"}}),
    ("ready", "error", "", {"readyz": {"unserved": ["m"]}}),
    ("backends", "warning", 'cuvee_backend_up{backend="a-0",pool="a"} 0', {}),
    ("backends", "warning", 'cuvee_backend_resting{backend="a-0",pool="a"} 2', {}),
    ("loops", "error", "", {"loops": loop(error="403 Forbidden")}),
    ("loops", "warning", "", {"loops": loop(good_at_s=NOW_S - 500)}),
    ("reload", "error", "cuvee_config_last_reload_successful 0", {}),
    ("sources", "warning", 'cuvee_discovery_age_seconds{source="file x"} 300', {}),
    ("cluster", "error", "cuvee_cluster_up 0", {}),
    ("cluster", "error", "cuvee_cluster_follows 0", {}),
    (
        "plan", "error",
        'cuvee_plan_looks_total{result="failed"} 3\ncuvee_loop_failing{loop="planning"} 1', {},
    ),
    ("plan", "warning", "cuvee_last_solve_timestamp_seconds 1799900000", {}),
    ("plan", "warning", "", {"plan": {"unserved": [{"what": "large", "why": "too long"}]}}),
    ("certificate", "warning", "", {"plan": {"certificate": {"holds": False, "attainment": 0.9}}}),
    ("the promise", "error", 'cuvee_slo_total{class="default",met="no",model="m",pool="a"} 50', {}),
    ("refusals", "warning", 'cuvee_shed_total{class="default",model="m",reason="full"} 90', {}),
    ("errors", "error", 'cuvee_responses_total{class="default",code="502",model="m"} 90', {}),
    ("queue", "warning", 'cuvee_queued_requests{worker="0"} 7', {}),
    ("spills", "warning", 'cuvee_decisions_total{decision="spill",model="m",pool="b"} 900', {}),
    ("speed", "warning", 'cuvee_pool_pace{pool="a"} 1.4', {}),
    ("speed", "warning", 'cuvee_backend_pace{backend="a-0",pool="a"} 1.6', {}),
    ("KV memory", "warning", 'cuvee_engine_kv_used{backend="a-0",pool="a"} 0.99', {}),
    ("engine metrics", "warning", 'cuvee_scrape_age_seconds{backend="a-0",pool="a"} 30', {}),
    ("workers", "warning", "cuvee_workers_replaced_total 2", {}),
    ("log", "warning", 'cuvee_log_lines_dropped_total{process="gateway"} 2', {}),
    ("trace", "warning", 'cuvee_trace_requests_total{result="lost"} 2', {}),
    (
        "event loop", "warning",
        'cuvee_loop_lag_seconds_bucket{le="0.01"} 9\n'
        'cuvee_loop_lag_seconds_bucket{le="0.05"} 9',
        {},
    ),
]  # fmt: skip


def test_nothing_is_said_of_what_is_well():
    """A line each, all of them fine."""
    assert [one for one in found() if one.outcome is not Severity.FINE] == []
    assert len(found()) >= 14
    assert exit_code(found()) == 0


@pytest.mark.parametrize(
    ("name", "outcome", "page", "values"),
    FAULTS,
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(FAULTS)],
)  # fmt: skip
def test_a_fault_has_its_line(name: str, outcome: str, page: str, values: dict[str, Any]):
    """And no other line changes for the worse: what is wrong is told once."""
    bad = [one for one in found(page, **values) if one.outcome >= Severity.WARNING]

    assert [(one.name, one.outcome.name.lower()) for one in bad] == [(name, outcome)]
    assert exit_code(bad) == {"warning": 1, "error": 2}[outcome]
    assert bad[0].hint


def test_a_loop_that_is_configured_to_be_slow_is_not_late():
    """Its turns are what its age is compared with."""
    told = VALUES | {"/cuvee/loops": loop(good_at_s=NOW_S - 500)}
    reading = AdminReading("http://gateway", Samples(WELL), told, NOW_S)
    [line] = [one for one in of_running(reading, {}, "1", late_s=900.0) if one.name == "loops"]

    assert line.outcome is Severity.FINE


def test_notes_are_no_fault():
    """Engines that sleep or serve others, and a plan whose certificate is still to come."""
    notes = found(
        'cuvee_engine_sleeping{backend="a-0"} 1\ncuvee_engine_foreign{backend="a-0"} 3',
        plan={"certificate": None},
    )

    assert exit_code(notes) == 0
    assert sum(one.outcome is Severity.NOTE for one in notes) == 3


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.casefold()).replace(" ", "-") for line in lines}


def test_every_address_of_a_hint_exists():
    """Every page that any check names, with its heading: read from the sources of all checks."""
    sources = (DOCS / "gateway" / "inspection").glob("*.py")
    text = "\n".join(path.read_text() for path in sources)
    groups = dict(re.findall(r'CheckGroup\("(\w+)", "(docs/[^"]+)"\)', text))
    pages = set(re.findall(r'"(docs/[\w.-]+\.md(?:#[\w-]+)?)"', text))

    assert groups.keys() == {"configuration", "machine", "engines", "services", "running"}
    for one in pages:
        name, _, anchor = one.partition("#")
        assert (DOCS / name).is_file(), one
        assert not anchor or anchor in headings(DOCS / name), one


def test_headings_of_a_groups_own_page_exist():
    """Those that are given without the page."""
    for path in (DOCS / "gateway" / "inspection").glob("*.py"):
        text = path.read_text()
        page = re.search(r'GROUP = CheckGroup\("\w+", "(docs/[^"]+)"\)', text)
        for anchor in set(re.findall(r'"#([\w-]+)"', text)):
            assert page is not None, path
            assert anchor in headings(DOCS / page[1]), (path, anchor)


def test_there_are_many_checks():
    """By their groups and names, in the sources."""
    names = set()
    for path in (DOCS / "gateway" / "inspection").glob("*.py"):
        found = re.findall(
            r"GROUP\.(?:fine|note|warning|error)\(\s*\"([\w' ]+)\"", path.read_text()
        )
        names |= {(path.stem, name) for name in found}

    assert len(names) >= 40
