"""`cuvee history`: the journal as a table, from a file, a configuration or a running gateway."""

import asyncio
import json
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from cuvee.history import history
from gateway.access.admin_access import AdminAccess, AdminOpener
from gateway.admin.server import JSON, AdminServer
from gateway.journal.entry import CallerBill, Entry, Happened, ModelBill, PlanNote, line

PLAN = PlanNote(
    plan_id="1", objective="provision", usd_per_hour=4.44, backends={"a10g": 1, "a100": 1},
    requests_per_s=5.0, attainment=0.9973, target=0.99,
)  # fmt: skip
BEFORE = PlanNote(
    plan_id="0", objective="provision", usd_per_hour=6.86, backends={"a100": 2}, requests_per_s=9.0
)
AT = "2026-11-28T12:00:00Z"
ENTRIES = [
    Entry(at=AT, kind="start", plan=BEFORE, backends={"a100": 2}),
    Entry(at=AT, kind="looks", cause="kept: it is the best one", looks=7, since=AT),
    Entry(
        at=AT, kind="result", before=BEFORE,
        happened=Happened(seconds=60, requests=1234, kept=99, missed=1, usd_running=0.1143),
    ),
    Entry(at=AT, kind="plan", cause="certified, and 35% cheaper", plan=PLAN, before=BEFORE),
]  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(map(line, ENTRIES)))
    return path


def run(*arguments: str):
    return CliRunner().invoke(history, arguments)


def test_a_decision_stands_with_its_cause_its_price_and_what_came_of_it(journal: Path):
    result = run("--file", str(journal))

    assert result.exit_code == 0, result.output
    words = " ".join(result.output.replace("│", " ").split())
    for told in ("plan -2.42 $/h", "1 a10g, 1 a100", "4.44", "99.73%", "1,234", "99.00%", "0.1143"):
        assert told in words
    assert "kept: it is" not in words


def test_looks_are_shown_on_request_and_the_last_entries_only(journal: Path):
    looks = run("--file", str(journal), "--looks")
    last = run("--file", str(journal), "--last", "1", "--json")

    assert "7 looks" in looks.output
    assert [entry["kind"] for entry in json.loads(last.stdout)] == ["plan"]


def test_an_empty_journal_says_so(tmp_path: Path):
    empty = tmp_path / "journal.jsonl"
    empty.touch()
    assert run("--file", str(empty)).output == "nothing yet\n"


def test_the_bill_is_by_hour_model_and_caller(tmp_path: Path):
    """Hours stand with what ran, was planned, and would have been on one GPU type; models and
    callers with their sums over all hours."""
    hours = [
        Entry(
            at=f"2026-11-28T{hour}:00:00Z", kind="hour",
            happened=Happened(
                seconds=3600, requests=100, usd_running=3.0, usd_planned=2.5, usd_single=7.0,
                usd_idle=1.0, models={"llama": ModelBill(requests=100, usd=2.0)},
                callers={"ann": CallerBill(requests=100, input_tokens=1234, usd=2.0)},
            ),
        )
        for hour in (12, 13)
    ]  # fmt: skip
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(map(line, [*ENTRIES, *hours])))

    result = run("--file", str(path), "--bill")

    assert result.exit_code == 0, result.output
    rows = [line.replace("│", " ").split() for line in result.stdout.splitlines()]
    assert ["2026-11-28", "13:00", "100", "0", "0", "3.00", "2.50", "7.00"] in rows
    assert ["model", "llama", "200", "0", "0", "4.00"] in rows
    assert ["caller", "ann", "200", "2,468", "0", "4.00"] in rows
    assert ["pools", "without", "a", "request", "2.00"] in rows


def test_in_the_first_hour_there_is_no_bill_yet(journal: Path):
    """Though there are decisions, and what they have cost."""
    assert run("--file", str(journal), "--bill").output == "no hour is over yet\n"


@pytest.mark.parametrize("text", ["pools:\n  h100: {}\n", "garbage{", '{"at": "x"}\n'])
def test_a_file_that_is_no_journal_is_an_error(text: str, tmp_path: Path):
    """It is named: "nothing yet" would say that the gateway has decided nothing."""
    path = tmp_path / "cuvee.yaml"
    path.write_text(text)

    result = run("--file", str(path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{path} is no journal" in result.stderr


def test_a_broken_line_of_a_journal_is_left_out(journal: Path):
    whole = run("--file", str(journal), "--json")
    journal.write_bytes(b"garbage{\n" + journal.read_bytes() + b'{"at": "2026-1')

    assert run("--file", str(journal), "--json").stdout == whole.stdout


@pytest.mark.parametrize(
    ("url", "told", "code"),
    [
        ("localhost:8790", "must start with http", 2),
        ("http://127.0.0.1:99999", "no URL of a host", 2),
        ("http://127.0.0.1:1", "127.0.0.1:1", 1),
    ],
)
def test_a_gateway_that_cannot_be_asked_is_named(url: str, told: str, code: int):
    """With 1 as of `status`; with 2 where the command itself is wrong."""
    result = run("--url", url)
    assert result.exit_code == code
    assert told in result.stderr


def test_a_file_and_a_gateway_are_not_asked_together(journal: Path):
    result = run("--file", str(journal), "--url", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


@pytest.mark.parametrize("answers", [{}, {"/cuvee/history": lambda: (200, JSON, b"[1]")}])
async def test_what_is_no_gateway_is_said_to_be_none(answers):
    """A server that lacks the path, and one that has something else there."""
    async with AdminServer(answers, host="127.0.0.1", port=0) as admin:
        result = await asyncio.to_thread(run, "--url", admin.url)

    assert result.exit_code == 1
    assert f"{admin.url} is no admin port of a gateway" in result.stderr


async def test_a_gateway_that_asks_for_a_token_gets_it(monkeypatch: pytest.MonkeyPatch):
    """From the environment, where no list of processes shows it."""
    answers = {"/cuvee/history": lambda: (200, JSON, b'{"entries":[]}')}
    async with AdminServer(answers, host="127.0.0.1", port=0) as admin:
        read = AdminOpener(sha256(b"token-0123456789").digest(), ())
        admin.configure(AdminAccess(read, read), None)
        refused = await asyncio.to_thread(run, "--url", admin.url)
        monkeypatch.setenv("CUVEE_ADMIN_TOKEN", "token-0123456789")
        answered = await asyncio.to_thread(run, "--url", admin.url)

    assert (refused.exit_code, "401" in refused.output) == (1, True)
    assert (answered.exit_code, answered.output) == (0, "nothing yet\n")
