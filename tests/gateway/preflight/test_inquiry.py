"""Emulated engines, asked over real sockets."""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
import yaml

from gateway.config.load import load
from gateway.preflight.inquiry import expected, inquire
from loadtest.emulator.faults import NONE, Faults
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile
from planner.shipped import folder

PROFILE = find_profile("llama-3-8b/H100", folder())


@asynccontextmanager
async def configured(tmp_path, *emulators, profile="llama-3-8b/H100"):
    """The configuration of these emulated engines, as one pool for the model `m`."""
    async with AsyncExitStack() as stack:
        urls = []
        for emulator in emulators:
            urls.append(f"http://127.0.0.1:{await emulator.start()}")
            stack.push_async_callback(emulator.stop)
        pool = {
            "model": "m", "profile": profile, "usd_per_hour": 1.0, "backends": urls,
        }  # fmt: skip
        raw = {"models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.1}}}, "pools": {"h100": pool}}
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw))
        yield load(path)


def emulator(model="m", *, faults=NONE, api_key=None, context=PROFILE.max_model_len):
    return Emulator(replace(PROFILE, max_model_len=context), model, faults=faults, api_key=api_key)


async def test_every_backend_has_its_verdict(tmp_path):
    """In the order of the file: as configured, of another name, too short, not ready."""
    engines = (
        emulator(), emulator("other"), emulator(context=4096),
        emulator(faults=Faults(start_delay_s=60.0)),
    )  # fmt: skip
    async with configured(tmp_path, *engines) as loaded:
        verdicts = await inquire(expected(loaded), key=None, timeout_s=10.0)

    assert [v.backend.url for v in verdicts] == list(loaded.config.pools["h100"].backends)
    assert [v.kind for v in verdicts] == ["ok", "mismatch", "mismatch", "unknown"]
    assert [v.text.split(":")[0] for v in verdicts] == [
        "serves `m`, context 8192 tokens",
        "does not serve `m`, but `other`",
        "its context is 4096 tokens and the profile's 8192",
        "/health answered 503",
    ]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "asks for a key: /v1/models answered 401"),
        ("wrong", "refuses the key: /v1/models answered 401"),
        ("right", "serves `m`, context 8192 tokens"),
    ],
)
async def test_a_key_is_tried(tmp_path, key, text):
    """As engines with `--api-key` want it."""
    async with configured(tmp_path, emulator(api_key="right")) as loaded:
        [verdict] = await inquire(expected(loaded), key=key, timeout_s=10.0)

    assert verdict.text == text


async def test_backends_that_do_not_answer_take_one_timeout_in_all(tmp_path):
    """Each of them is told; one whose port is closed is told at once."""
    silent = socket.create_server(("127.0.0.1", 0))  # accepts in the kernel, and never answers
    port = silent.getsockname()[1]
    async with configured(tmp_path, emulator()) as loaded:
        [one] = expected(loaded)
    mute = [one._replace(url=f"http://127.0.0.1:{port}/{n}") for n in range(20)]
    async with asyncio.timeout(5.0):
        verdicts = await inquire([*mute, one], key=None, timeout_s=0.2)
    silent.close()

    assert {v.text for v in verdicts[:-1]} == {"did not answer within 0.2 s"}
    assert "cannot be reached" in verdicts[-1].text
    assert {v.kind for v in verdicts} == {"unknown"}
