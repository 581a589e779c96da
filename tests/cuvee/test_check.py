"""`cuvee check`: what it prints, where, and the exit code."""

from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cuvee.check import check


@pytest.fixture
def config(tmp_path):
    """Writes a configuration of two pools; called with changes of the pool a10g."""

    def make(**a10g):
        pools: dict[str, Any] = {
            name: {
                "model": "m",
                "profile": f"llama-3-8b/{gpu}",
                "usd_per_hour": 1.0,
                "backends": [f"http://{name}:1"],
            }
            for name, gpu in (("a10g", "A10G"), ("h100", "H100"))
        }
        pools["a10g"] |= a10g
        raw = {"models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}}, "pools": pools}
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        return path

    return make


def run(*arguments):
    return CliRunner().invoke(check, [str(argument) for argument in arguments])


def test_a_good_file(config):
    """Exit code 0, and in a few lines what the gateway would serve."""
    result = run("--config", config())

    assert result.exit_code == 0
    assert "1 model, 2 pools, 2 backends" in result.stdout
    assert result.stdout.splitlines()[1:] == [
        "  m: TTFT 2 s and TPOT 120 ms for 99 %",
        "  a10g: 1 backend of A10G with m, context 8192, $1.00/h each",
        "  h100: 1 backend of H100 with m, context 8192, $1.00/h each",
    ]
    assert result.stderr == ""


def test_a_profile_says_for_which_engine_version_it_is(config, tmp_path):
    """Where its file does."""
    (tmp_path / "own.yaml").write_text(
        "format: cuvee-profile/1\norigin: analytic\ngpu: A10G\nmodel: Llama-3-8B\n"
        'engine_version: "0.11"\n'
    )
    result = run("--config", config(profile="own.yaml"))

    a10g, h100 = result.stdout.splitlines()[2:]
    assert a10g.endswith(", profile of engine version 0.11")
    assert "version" not in h100


def test_alternatives_are_a_line_each(config):
    """What could be rented in place of a pool's own configuration, and what could not and why."""
    choices = {"gpu": ["L4", "A10G"], "tensor_parallel_size": [2], "dtype": ["fp16", "fp8"]}

    result = run("--config", config(any_of=choices))

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    at = lines.index("  a10g: 1 backend of A10G with m, context 8192, $1.00/h each")
    assert lines[at + 1].startswith("    or a10g/2xA10G-fp16: 2xA10G, at most 256 requests")
    assert lines[at + 1].endswith("$2.00/h each")
    assert "    not a10g/2xL4-fp16: prices has none for L4" in lines[at + 2 : at + 5]
    assert "    not a10g/2xA10G-fp8: dtype: fp8, and A10G has no fp8 units" in lines


def test_mistakes_are_a_line_each(config):
    """On stderr, nothing on stdout, and exit code 2."""
    path = config(usd_per_hour=-1, profile="missing.yaml", zoen="z")

    result = run("--config", path)

    assert result.exit_code == 2
    assert result.stdout == ""
    first, second = result.stderr.strip().splitlines()
    assert first.startswith(f"{path}:9: pools.a10g.profile: ")
    assert second == f"{path}:13: pools.a10g.zoen: unknown key; did you mean zone?"


@pytest.mark.parametrize(("option", "code"), [((), 0), (("--strict",), 2)])
def test_warnings_are_a_line_each(config, option, code):
    """The gateway starts with them; with `--strict` they are mistakes."""
    path = config(usd_per_hour=0)

    result = run("--config", path, *option)

    assert result.exit_code == code
    assert result.stderr.startswith(f"warning: {path}:10: pools.a10g.usd_per_hour: 0")


def test_connect_fails_where_a_backend_does_not_answer(config):
    """Exit code 1, and a line for each backend."""
    path = config(backends=["http://127.0.0.1:1"])

    result = run("--config", path, "--connect", "--timeout", 1)

    assert result.exit_code == 1
    first, second = result.stdout.strip().splitlines()[-2:]
    assert first.startswith("no  a10g  http://127.0.0.1:1  ")
    assert "cannot be reached" in first
    assert second.startswith("no  h100  http://h100:1")


def test_a_key_cannot_break_the_head(config):
    """It stands in a header."""
    result = run("--config", config(), "--connect", "--api-key", "a\r\nx: 1")

    assert result.exit_code == 2
    assert "printable" in result.stderr


def test_where_backends_are_found_is_shown(config, tmp_path):
    """A file that is not there yet is a warning: whoever writes it may come later."""
    path = config(backends=[], discover={"file": "found.yaml"})

    result = run("--config", path)

    assert f"a10g: 0 backends and those of file {tmp_path / 'found.yaml'} of A10G" in result.stdout
    assert "pools.a10g.discover.file: no such file: " in result.stderr


def test_connect_asks_what_is_found_now(config, tmp_path):
    """A line for each backend that the file names, and one for a file that cannot be used."""
    path = config(backends=[], discover={"file": "found.yaml"})
    (tmp_path / "found.yaml").write_text("- http://127.0.0.1:9\n")
    found = run("--config", path, "--connect", "--timeout", 1)
    (tmp_path / "found.yaml").write_text("- nonsense\n")
    broken = run("--config", path, "--connect", "--timeout", 1)

    assert "no  a10g  http://127.0.0.1:9" in found.stdout
    assert f"no  file {tmp_path / 'found.yaml'}: " in broken.stdout
    assert "[0]: must start with http:// or https://" in broken.stdout
    assert found.exit_code == broken.exit_code == 1
