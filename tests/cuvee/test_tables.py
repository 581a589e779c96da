"""What people read of `history` and `explain` fits a terminal of 80 columns."""

import io

from rich.console import Console
from rich.table import Table

from cuvee.explain import prospect
from cuvee.history import billed, table
from gateway.journal.entry import CallerBill, Entry, Happened, ModelBill, PlanNote

AT = "2026-11-28T12:00:00Z"
BACKENDS = {"a10g-spot-east": 12, "h100-reserved": 104}


def rendered(*parts: Table | str) -> str:
    """At 80 columns; no line is longer."""
    file = io.StringIO()
    console = Console(width=80, file=file, highlight=False)
    for part in parts:
        console.print(part)
    text = file.getvalue()
    assert all(len(line) <= 80 for line in text.splitlines()), text
    return text


def test_no_figure_of_the_history_is_cut():
    """Large ones: a fleet of a hundred backends, and all promises kept."""
    before = PlanNote(
        plan_id="0", objective="provision", usd_per_hour=1234.56, backends=BACKENDS,
        requests_per_s=900.0, attainment=1.0, target=0.99,
    )  # fmt: skip
    happened = Happened(
        seconds=3600, requests=1_234_567, kept=1_234_567, usd_running=1234.5678,
        usd_planned=1200.25, usd_single=2345.75, usd_idle=10.5,
        models={"llama-3-8b": ModelBill(requests=1_234_567, input_tokens=9_876_543_210, usd=1224)},
        callers={"a-team": CallerBill(requests=1_234_567, output_tokens=987_654_321, usd=1224.0)},
    )  # fmt: skip
    entries = [
        Entry(
            at=AT, kind=kind, cause="certified, and 35% cheaper", before=before, happened=happened
        )
        for kind in ("result", "hour")
    ]

    decisions, bill = rendered(table(entries)), rendered(billed(entries[1:]))

    assert "…" not in decisions + bill
    for figure in ("1234.56", "100.00%", "1,234,567", "1234.5678"):
        assert figure in decisions
    for figure in ("9,876,543,210", "987,654,321", "1200.25", "2345.75", "1224.00"):
        assert figure in bill


def test_no_figure_of_an_explanation_is_cut():
    backends = [
        {
            "name": f"h100-reserved-{n}", "state": "serving", "in_flight": 1234, "load": 0.75,
            "memory": 0.5, "prefill_s": 12.25, "known": 1.0, "pressure": 1.75, "lost": None,
        }
        for n in range(2)
    ]  # fmt: skip
    pool = {
        "pool": "h100-reserved", "gpu": "H100", "share": 1.0, "backends_planned": 104,
        "backends": backends, "n_star": 1256.5, "prefill_s": 12.25, "usd_per_1000": 123.456,
        "lost": "not planned for this size; used only where the planned pools have no room",
    }  # fmt: skip
    told = {
        "request": {"stream": True, "sequences": 1, "endpoint": "chat", "model": "llama-3-8b"},
        "believed": {
            "input_tokens": 293, "output_tokens": 100, "output_p90": 374, "bucket": 14,
            "what": "llama-3-8b in 256–512 out 64–128", "planned_rate": 0.0119,
        },
        "promise": None, "plan": "5f4671c0", "pools": [pool], "queued": 0, "turns": [], "notes": [],
    }  # fmt: skip

    text = rendered(*prospect(told))

    assert "…" not in text
    for figure in ("1234", "12.25", "1.75", "1256.5", "123.456", "100%", "serving"):
        assert figure in text
