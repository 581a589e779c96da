"""`cuvee serve --quick`: an answer through the gateway without a file."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import msgspec
from click.testing import CliRunner

import cuvee


def test_it_serves_at_once_and_says_what_it_assumed(beside, tmp_path):
    """What is not said is assumed by what the engine tells; nothing is left in the folder."""
    url = beside.engine("Llama-3-8B")
    process = subprocess.Popen(
        [sys.executable, "-m", "cuvee", "serve", "--quick", url, "--port", "0",
         "--host", "127.0.0.1"],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"listening on (http://\S+),", line):
                body = msgspec.json.encode({"prompt": "hello", "max_tokens": 2})
                head = {"content-type": "application/json"}
                asked = urllib.request.Request(f"{found[1]}/v1/completions", body, head)
                with urllib.request.urlopen(asked, timeout=20) as reply:
                    answer = msgspec.json.decode(reply.read())
                break
    finally:
        process.send_signal(signal.SIGINT)
        for line in process.stderr:
            if "a second signal ends at once" in line:
                process.send_signal(signal.SIGINT)
        process.wait(20)
        process.stderr.close()

    told = "".join(lines)
    assert answer["choices"]
    assert "assumed: h100: 1 × H100" in told
    assert "assumed: Llama-3-8B: a promise of TTFT" in told
    assert "cuvee init" in told
    assert list(tmp_path.iterdir()) == []


def test_engines_without_quick_and_quick_without_engines():
    """Both are mistakes of one line."""
    for words in (["serve", "http://127.0.0.1:1"], ["serve", "--quick"], ["serve", "--gpu", "L4"]):
        result = CliRunner().invoke(cuvee.main, words)
        assert result.exit_code == 2
        assert "--quick" in result.stderr


def test_hints_are_of_what_serve_takes(beside, monkeypatch):
    """A key is a variable of its environment; the origin of a model is an option of `init`."""
    monkeypatch.delenv("CUVEE_API_KEY", raising=False)
    keyed, own = beside.engine("Llama-3-8B", api_key="sesame"), beside.engine("our-finetune")

    locked = CliRunner().invoke(cuvee.main, ["serve", "--quick", keyed])
    unknown = CliRunner().invoke(cuvee.main, ["serve", "--quick", own])

    assert (locked.exit_code, unknown.exit_code) == (1, 2)
    assert "it asks for a key (CUVEE_API_KEY" in locked.stderr
    assert f"`cuvee init {own} --weights MODEL`" in unknown.stderr
