"""`cuvee keys`: a keys file that only a gateway and its operators need to read."""

import stat
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cuvee import main


def ran(*arguments: str | Path | int):
    """The result of `cuvee keys …`."""
    return CliRunner().invoke(main, ["keys", *map(str, arguments)])


def test_a_key_is_shown_once_and_its_hash_is_written(tmp_path):
    """The file has no key in it, and nobody else may read it."""
    file = tmp_path / "keys.yaml"
    result = ran("add", "team-a", "--file", file, "--model", "m", "--requests-per-minute", 60)
    key = result.stdout.strip()

    assert result.exit_code == 0, result.output
    assert key.startswith("sk-cuvee-")
    assert key not in result.stderr
    text = file.read_text()
    assert key not in text
    section = yaml.safe_load(text)["keys"]["team-a"]
    hashed = "sha256:" + sha256(key.encode()).hexdigest()
    assert section == {"hash": hashed, "models": ["m"], "requests_per_minute": 60}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keys.yaml"]


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_keys_come_and_go_and_the_others_stay(tmp_path, suffix):
    """A name is taken once; one that is not there cannot be revoked."""
    file = tmp_path / f"keys.{suffix}"
    file.write_text("{}")
    file.chmod(0o640)
    ran("add", "a", "--file", file)
    ran("add", "b", "--file", file, "--usd-per-day", "2.5")

    assert ran("add", "a", "--file", file).exit_code == 1
    assert ran("revoke", "a", "--file", file).exit_code == 0
    assert ran("revoke", "a", "--file", file).exit_code == 1
    listed = ran("list", "--file", file)
    assert "b" in listed.output
    assert "2.5" in listed.output
    assert "sha256" not in listed.output
    assert list(yaml.safe_load(file.read_text())["keys"]) == ["b"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_the_file_is_the_one_that_the_configuration_names(tmp_path):
    """Also before it is there, when the gateway could not start."""
    (tmp_path / "cuvee.yaml").write_text("access: {keys_file: secrets/keys.yaml}")
    (tmp_path / "secrets").mkdir()

    assert ran("add", "a", "--config", tmp_path / "cuvee.yaml").exit_code == 0
    assert "a" in yaml.safe_load((tmp_path / "secrets" / "keys.yaml").read_text())["keys"]
    (tmp_path / "cuvee.yaml").write_text("models: {}")
    assert "--file" in ran("list", "--config", tmp_path / "cuvee.yaml").output


CONFIG = """
models: {m: {aliases: [n], slo: {ttft_s: 1, tpot_s: 0.1}, classes: {batch: {ttft_s: 9, tpot_s: 1}}}}
access: {keys_file: keys.yaml}
"""


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--model", "other"), "keys.a.models"),
        (("--slo-class", "gold"), "keys.a.slo_classes"),
        (("--slo-class", "batch", "--default-slo-class", "default"), "keys.a.default_slo_class"),
        (("--expires", "tomorrow"), "keys.a.expires"),
        (("--usd-per-day", "nan"), "keys.a.usd_per_day"),
        (("--weight", "inf"), "keys.a.weight"),
    ],
)
def test_a_key_that_a_gateway_would_refuse_is_not_written(tmp_path, options, field):
    """It follows a file as a whole: no other key could come or go any more."""
    (tmp_path / "cuvee.yaml").write_text(CONFIG)
    named = ("--config", tmp_path / "cuvee.yaml")
    result = ran("add", "a", *named, *options)

    assert result.exit_code == 1
    assert field in result.output
    assert not (tmp_path / "keys.yaml").exists()
    assert ran("add", "a", *named, "--model", "n", "--slo-class", "batch").exit_code == 0


def test_it_is_said_that_a_gateway_does_not_follow_the_file(tmp_path):
    """Else a key that was revoked would seem to be gone."""
    (tmp_path / "cuvee.yaml").write_text(CONFIG)
    named = ("--config", tmp_path / "cuvee.yaml")
    ran("add", "a", *named)
    fine = ran("add", "b", *named)
    keys = tmp_path / "keys.yaml"
    keys.write_text(keys.read_text().replace("  b:", "  b:\n    expires: soon"))
    told = ran("revoke", "a", *named)

    assert "does not follow" not in fine.output
    assert told.exit_code == 0
    assert "does not follow this file until it is corrected" in told.output
    assert "keys.b.expires" in told.output


def test_a_section_that_is_none_is_listed(tmp_path):
    """And a single name instead of a list."""
    file = tmp_path / "keys.yaml"
    file.write_text("keys: {a: hello, b: {models: llama}}")
    listed = ran("list", "--file", file)

    assert listed.exit_code == 0
    assert "llama" in listed.output
    assert listed.output.count("all") == 3  # models and classes that are not named
    assert "()" not in listed.output


@pytest.mark.parametrize("name", ["", "a b", "../x", "a" * 65, "ü"])
def test_a_name_that_no_metric_could_have_is_refused(tmp_path, name):
    """The file is not made."""
    assert ran("add", "--file", tmp_path / "keys.yaml", "--", name).exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_something_else_is_left_alone(tmp_path):
    """It may be the configuration, named by mistake."""
    file = tmp_path / "cuvee.yaml"
    file.write_text("models: {}\n")

    assert ran("add", "a", "--file", file).exit_code == 1
    assert file.read_text() == "models: {}\n"
