"""`POST /cuvee/explain` over real sockets: what a gateway would decide, and what it decided."""

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner

from cuvee.explain import explain
from tests.test_page import KEY, MODEL, WORDS, Site, site

BODY = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": WORDS * 80}]}


async def post(here: Site, path: str, value: Any) -> tuple[int, Any]:
    async with here.session.post(f"{here.app.admin}{path}", json=value) as reply:
        return reply.status, json.loads(await reply.read())


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_gateway_says_what_it_would_do_and_what_it_did(tmp_path, workers):
    """The same pool and bucket before and after; nothing is sent and nothing reserved by the
    question, and neither key nor prompt stands in an answer."""
    async with site(tmp_path, workers=workers) as here:
        status, told = await post(here, "/cuvee/explain", {"body": BODY})
        assert status == 200, told
        assert here.app.in_flight == 0
        laxer = {"body": BODY, "slo_class": "batch"}
        _, batch = await post(here, "/cuvee/explain", laxer)
        _, left = await post(here, "/cuvee/explain", laxer | {"slo_class": "best-effort"})
        url = f"http://127.0.0.1:{here.app.port}/v1/chat/completions"
        headers = {"authorization": f"Bearer {KEY}"}
        body = BODY | {"vllm_xargs": {"output_tokens": 5}}
        async with here.session.post(url, json=body, headers=headers) as reply:
            receipt = reply.headers
            await reply.read()
        name = receipt["x-request-id"]
        await here.until("requests", lambda seen: name in [one["id"] for one in seen["last"]])
        _, served = await post(here, "/cuvee/explain", {"request_id": name})
        _, again = await post(here, "/cuvee/explain", {"body": body})
        lost = await post(here, "/cuvee/explain", {"request_id": "unknown-id"})
        wrong = await post(here, "/cuvee/explain", {"body": BODY | {"model": "gpt-9"}})
        printed = await asyncio.to_thread(
            CliRunner().invoke, explain, [name, "--url", here.app.admin]
        )

    assert (batch["promise"]["ttft_s"], left["promise"]) == (20, None)
    assert batch["believed"]["bucket"] != told["believed"]["bucket"]
    assert str(told["believed"]["bucket"]) == receipt["x-cuvee-bucket"]
    assert receipt["x-cuvee-backend"] in {turn["backend"] for turn in told["turns"]}
    known = {one["name"]: one["known"] for row in again["pools"] for one in row["backends"]}
    assert max(known, key=known.__getitem__) == receipt["x-cuvee-backend"]
    assert max(known.values()) > 0.5
    assert sum(known.values()) == max(known.values()), "of the other backend nothing is known"
    assert served["backend"] == receipt["x-cuvee-backend"]
    rows = {row["what"]: row for row in served["compared"]}
    assert rows["input tokens"]["expected"] == told["believed"]["input_tokens"]
    assert rows["output tokens"]["actual"] == 5
    assert rows["TTFT, s"]["actual"] > 0
    assert rows["pool"]["actual"] == receipt["x-cuvee-pool"]
    assert lost[0] == 404
    assert "the gateway keeps no request `unknown-id`" in lost[1]["error"]["message"]
    assert (wrong[0], wrong[1]["error"]["code"]) == (404, "model_not_found")
    assert printed.exit_code == 0, printed.output
    assert "estimated or promised" in printed.output
    everything = json.dumps([told, served]) + printed.output
    assert WORDS not in everything
    assert KEY not in everything
