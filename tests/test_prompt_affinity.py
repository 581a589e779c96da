"""Conversations over real sockets, before engines with prefix caches: turns find what was there."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, TCPConnector

from gateway.app import App
from gateway.config.load import load
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

ROOT = Path(__file__).resolve().parents[1]
PROFILE, MODEL = "llama-3-8b/H100", "llama-3-8b"
TALKS, TURNS, ENGINES = 8, 4, 3


def asked(talk: int, turn: int) -> list[dict[str, str]]:
    """The messages of a turn: all before it, and a question of 150 words."""
    messages = []
    for before in range(turn + 1):
        words = " ".join(f"talk{talk} turn{before} word{n}" for n in range(50))
        messages.append({"role": "user", "content": words})
        if before < turn:
            messages.append({"role": "assistant", "content": f"answer {talk} {before}"})
    return messages


async def talk_shares(tmp_path: Path, affinity: str, workers: int) -> tuple[float, set[str]]:
    """The share of hits in the prompts of conversations whose turns come in between each other,
    each over a new connection; and what was decided."""
    engines = [
        Emulator(find_profile(PROFILE, ROOT), MODEL, prefix_cache=True) for _ in range(ENGINES)
    ]
    urls = [f"http://127.0.0.1:{await engine.start()}" for engine in engines]
    raw: dict[str, Any] = {
        "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": {
            "h100": {
                "model": MODEL, "profile": PROFILE, "usd_per_hour": 1.0, "backends": urls,
                "affinity": affinity,
            }
        },
        "gateway": {
            "port": 0, "admin_port": 0, "workers": workers, "drain_s": 1, "drain_delay_s": 0,
        },
    }  # fmt: skip
    path = tmp_path / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    hits = prompts = 0
    decisions = set()
    try:
        async with (
            App(load(path), host="127.0.0.1", port=0) as app,
            ClientSession(connector=TCPConnector(force_close=True)) as session,
        ):
            url = f"http://127.0.0.1:{app.port}/v1/chat/completions"

            async def one(talk: int, turn: int) -> None:
                nonlocal hits, prompts
                body = {"model": MODEL, "messages": asked(talk, turn), "max_tokens": 4}
                reply = await session.post(url, json=body)
                usage = (await reply.json())["usage"]
                decisions.add(reply.headers["x-cuvee-decision"])
                prompts += usage["prompt_tokens"]
                hits += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0

            for turn in range(TURNS):
                order = range(TALKS) if turn % 2 else reversed(range(TALKS))
                await asyncio.gather(*(one(talk, turn) for talk in order))
    finally:
        for engine in engines:
            await engine.stop()
    return hits / prompts, decisions


@pytest.mark.parametrize("workers", [1, 2])
async def test_turns_go_where_their_conversation_is(tmp_path: Path, workers: int):
    """Most of what could be a hit is one, whichever worker a turn reaches; a decision that
    affinity changed says so."""
    share, decisions = await talk_shares(tmp_path, "auto", workers)

    most = sum(range(TURNS)) / sum(range(1, TURNS + 1))
    assert share > 0.75 * most
    assert decisions <= {"planned", "affinity"}
    assert "affinity" in decisions


async def test_without_affinity_they_go_anywhere(tmp_path: Path):
    """The switch of the pool: by load alone."""
    share, decisions = await talk_shares(tmp_path, "off", 1)

    assert share < 0.4
    assert decisions == {"planned"}
