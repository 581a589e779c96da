"""`cuvee plan --diff` and `--apply` with a running gateway."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cuvee.plan import plan
from gateway.errors import Conflict
from tests.test_page import Site, site


async def run(*arguments: Any) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, plan, [str(a) for a in arguments])


async def post(here: Site, path: str, value: Any) -> tuple[int, Any]:
    async with here.session.post(f"{here.app.admin}{path}", json=value) as reply:
        return reply.status, json.loads(await reply.read())


async def reconfigure(here: Site, path: Path, **planner: Any) -> None:
    """Put other settings of the planner in force."""
    await asyncio.to_thread(rewrite, path, planner)
    assert (await post(here, "/cuvee/reload", {}))[0] == 200


def rewrite(path: Path, planner: dict[str, Any]) -> None:
    raw = yaml.safe_load(path.read_text())
    raw["planner"] |= planner
    path.write_text(yaml.safe_dump(raw))


async def diff(here: Site) -> tuple[int, dict[str, Any]]:
    """Exit code and what is told."""
    result = await run("--diff", "--url", here.app.admin, "--json")
    assert result.exit_code in (0, 2), result.output
    return result.exit_code, json.loads(result.stdout)


async def test_a_diff_is_applied_unless_something_has_moved(tmp_path):
    """Exit code 2 where there is a change, and 0 where there is none; what is applied stands in
    the journal with its cause. A diff against another plan or fleet is refused, and changes
    nothing."""
    async with site(tmp_path) as here:
        first = await run("--diff", "--url", here.app.admin)
        await reconfigure(
            here, tmp_path / "cuvee.yaml", objective="provision", min_requests=5, interval_s=100.0,
            window_s=100.0, patience=1000,
        )  # fmt: skip
        for _ in range(8):
            assert await here.chat() == 200
        await here.until("now", lambda now: sum(one["requests"] for one in now["classes"]) == 8)
        code, told = await diff(here)
        before = here.app.plan.plan_id
        backend = here.app.fleet.backends[0]
        backend.probed(False)
        with pytest.raises(Conflict, match="the fleet has moved"):  # no probe comes in between
            await here.app._insight._desk.apply(json.dumps({"index": told["index"]}).encode())
        backend.probed(True)
        stays = here.app.plan.plan_id
        shown = await run("--diff", "--url", here.app.admin)
        _, again = await diff(here)
        result = await run("--apply", again["index"], "--url", here.app.admin, "--why", "cheaper")
        after = here.app.plan
        unchanged, _ = await diff(here)
        stale = await run("--apply", again["index"], "--url", here.app.admin)
        strange = await post(here, "/cuvee/plan", {"index": "nothing"})
        history = await here.view("history")

    assert first.exit_code == 0, first.output
    assert "too few requests came to tell" in first.output
    assert code == 2
    assert told["after"]["usd_per_hour"] < told["before"]["usd_per_hour"]
    assert told["before"]["plan_id"] == before
    assert stays == before
    assert shown.exit_code == 2
    assert "Apply it with: cuvee plan --apply" in shown.output
    assert result.exit_code == 0, result.output
    assert after.plan_id == again["after"]["plan_id"]
    assert unchanged == 0
    assert stale.exit_code == 1
    assert "the plan has moved" in stale.output
    assert strange[0] == 400
    assert "applied by hand: cheaper" in [one["why"] for one in history["decisions"]]


async def test_what_is_no_gateway_is_an_error(tmp_path):
    """Exit code 1, and not 2, which means a change."""
    for arguments in (
        ("--diff", "--url", "http://127.0.0.1:9"),
        ("--apply", "a.b.c"),
        ("--url", "http://127.0.0.1:9"),
        ("--against", Path(__file__)),
        ("--diff", "--against", Path(__file__), "--trace", tmp_path / "no.csv"),
        ("--diff", "--against", tmp_path / "no.json"),
        ("--diff", f"--against={tmp_path / 'no.json'}"),
        ("--diff", "--against"),
        ("--diff", "--url", "http://127.0.0.1:9", "--nosuch"),
        ("--apply", "a.b.c", "--url", "nonsense"),
    ):
        result = await run(*arguments)
        assert result.exit_code == 1, arguments
        assert "Traceback" not in result.output
