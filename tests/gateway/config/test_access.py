"""Keys from a file, a variable and a folder; and what is said of those that cannot be used."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from gateway.access.key_board import SLOTS
from gateway.config.access_keys import MOST_KEYS, ServedKey
from gateway.config.change import change
from gateway.config.load import Loaded, load
from gateway.config.serving import serving
from gateway.errors import ConfigError

DEMO = Path(__file__).resolve().parents[3] / "configs" / "demo.yaml"
KEY = "sk-cuvee-0123456789abcdef"
HASH = "sha256:" + sha256(KEY.encode()).hexdigest()
OTHER = "sha256:" + "0" * 64


def wrote(folder: Path, **access) -> Path:
    """A configuration with this section `access`."""
    raw = yaml.safe_load(DEMO.read_text())
    raw["planner"] = {}
    raw["models"]["llama-3-8b"]["classes"] = {"batch": {"ttft_s": 20, "tpot_s": 0.4}}
    raw["access"] = access
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def keys(loaded: Loaded) -> tuple[ServedKey, ...]:
    assert loaded.access is not None
    return loaded.access.keys


def slots(loaded: Loaded) -> tuple[str, ...]:
    assert loaded.access is not None
    return loaded.access.slots


def names(loaded: Loaded) -> list[str]:
    return [key.name for key in keys(loaded)]


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_keys_file_is_yaml_or_json(tmp_path, suffix):
    """Every limit comes as it stands there; a date is its beginning in UTC."""
    section = {
        "hash": HASH,
        "models": ["llama-3-8b"],
        "slo_classes": ["batch"],
        "weight": 2,
        "requests_per_minute": 60,
        "tokens_per_minute": 1000,
        "concurrency": 3,
        "usd_per_day": 1.5,
        "expires": "2030-01-02",
    }
    text = json.dumps({"keys": {"team-a": section}})
    (tmp_path / f"keys.{suffix}").write_text(
        text.replace('"2030-01-02"', "2030-01-02") if suffix == "yaml" else text
    )
    loaded = load(wrote(tmp_path, keys_file=f"keys.{suffix}"))

    (key,) = keys(loaded)
    assert key.name == "team-a"
    assert key.digest == sha256(KEY.encode()).digest()
    assert (key.models, key.slo_classes, key.slo_class) == (("llama-3-8b",), ("batch",), "batch")
    assert (key.requests_per_minute, key.tokens_per_minute, key.concurrency) == (60, 1000, 3)
    assert (key.usd_per_day, key.expires_s) == (1.5, 1893542400.0)
    assert serving(loaded).gateway.caller_weights == {"team-a": 2.0}
    assert tmp_path / f"keys.{suffix}" in loaded.files


def test_keys_come_from_a_variable(tmp_path):
    """One, several with names or without, or what a keys file has."""
    path = wrote(tmp_path, keys_env="KEYS")
    document = json.dumps({"keys": {"team": {"hash": HASH}}})

    assert names(load(path, environ={"KEYS": KEY})) == ["key-1"]
    assert names(load(path, environ={"KEYS": f"a={KEY}a, {KEY}b"})) == ["a", "key-2"]
    assert names(load(path, environ={"KEYS": document})) == ["team"]
    assert keys(load(path, environ={"KEYS": KEY}))[0].digest == sha256(KEY.encode()).digest()


def test_keys_come_from_a_mounted_secret(tmp_path):
    """A file for each key, behind Kubernetes' links; hidden files are none."""
    data = tmp_path / "secret" / "..data"
    data.mkdir(parents=True)
    (data / "plain").write_text(KEY + "a\n")
    (data / "hashed").write_text(HASH)
    (data / "limited.yaml").write_text(f"hash: {OTHER}\nconcurrency: 2\n")
    for name in ("plain", "hashed", "limited.yaml"):
        (tmp_path / "secret" / name).symlink_to(f"..data/{name}")

    loaded = load(wrote(tmp_path, keys_folder="secret"))

    assert sorted(names(loaded)) == ["hashed", "limited", "plain"]
    assert {key.concurrency for key in keys(loaded)} == {None, 2}
    assert tmp_path / "secret" in loaded.files


@pytest.mark.parametrize(
    ("section", "line", "words"),
    [
        ({"hash": KEY}, 4, "team.hash: must be `sha256:`"),
        ({"hash": HASH, "modelz": []}, 5, "modelz"),
        ({"hash": HASH, "models": ["llama-3-8"]}, 5, "no model; did you mean llama-3-8b?"),
        ({"hash": HASH, "slo_classes": ["bach"]}, 5, "did you mean batch?"),
        ({"hash": HASH, "requests_per_minute": 0}, 5, "requests_per_minute"),
        ({"hash": HASH, "expires": "soon"}, 5, "expires: must be a date"),
        ({"hash": OTHER}, 4, "is that of `first` already"),
        ({"hash": HASH, "requests_per_minute": KEY}, 5, "requests_per_minute: must be a whole"),
        ({"hash": HASH, KEY: 1}, 3, "team.…: unknown key"),
        (KEY, 3, "team: must be a mapping, is text"),
        (
            {"hash": HASH, "default_slo_class": "batch", "slo_classes": ["default"]}, 5,
            "is not among slo_classes",
        ),
    ],
)  # fmt: skip
def test_a_broken_file_says_which_line(tmp_path, section, line, words):
    """And which key; never what stands there, which may be a secret."""
    text = yaml.safe_dump({"keys": {"first": {"hash": OTHER}, "team": section}}, sort_keys=False)
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(wrote(tmp_path, keys_file="keys.yaml"))

    (problem,) = refused.value.problems
    assert problem.startswith(f"{tmp_path}/keys.yaml:{line + 1}: keys.team"), problem
    assert words in problem
    assert KEY not in problem
    assert HASH not in problem


@pytest.mark.parametrize("text", ["keys: [", "keys:\n  a: {hash: 1}\n  a: {hash: 2}\n", "[]"])
def test_a_file_that_is_no_keys_file_is_refused(tmp_path, text):
    """Syntax, keys that stand twice, another shape."""
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        load(wrote(tmp_path, keys_file="keys.yaml"))


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ({"keys_file": "none.yaml"}, "cuvee keys add"),
        ({"keys_env": "NONE"}, "has no value"),
        ({"keys_env": "SHORT"}, "16 characters or more"),
        ({"keys_folder": "none"}, "cannot be read"),
    ],
)
def test_a_source_without_keys_is_told(tmp_path, access, words):
    """With the key of the configuration."""
    with pytest.raises(ConfigError, match=words) as refused:
        load(wrote(tmp_path, **access), environ={"SHORT": "hunter2"})

    assert "hunter2" not in str(refused.value)


def test_engines_never_get_the_gateways_own_keys(tmp_path):
    """To pass clients' keys on and to check them are two things, of which one is wanted."""
    path = wrote(tmp_path, keys_env="KEYS")
    raw = yaml.safe_load(path.read_text())
    next(iter(raw["pools"].values()))["forward_authorization"] = True
    path.write_text(yaml.safe_dump(raw))

    with pytest.raises(ConfigError, match="forward_authorization"):
        load(path, environ={"KEYS": KEY})


def test_a_name_keeps_its_place_over_changes(tmp_path):
    """Else what one key has used would count for another."""
    path = wrote(tmp_path, keys_env="KEYS")
    one, two, three = (
        load(path, environ={"KEYS": text})
        for text in (f"a={KEY}a b={KEY}b", f"b={KEY}b", f"c={KEY}c a={KEY}a")
    )
    step = change(one, two)
    assert step.keys == ("access",)
    last = change(step.loaded, three).loaded

    assert slots(step.loaded) == ("a", "b")
    assert slots(last) == ("a", "b", "c")
    assert change(step.loaded, load(path, environ={"KEYS": f"b={KEY}b"})).keys == ()


def test_every_key_has_room_on_the_board():
    """The configuration knows nothing of the board's size, and is held to it here."""
    assert MOST_KEYS == SLOTS


def test_no_text_of_the_configuration_shows_a_digest(tmp_path):
    """It may be logged by mistake."""
    loaded = load(wrote(tmp_path, keys_env="KEYS"), environ={"KEYS": KEY})
    digest = keys(loaded)[0].digest

    assert repr(digest) not in repr(loaded)
    assert digest.hex() not in repr(serving(loaded))


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ({"admin_read": {}}, "needs token_file, token_env or certificates"),
        ({"admin_read": {"token_env": "NONE"}}, "has no value"),
        ({"admin_read": {"token_env": "SHORT"}}, "16 characters or more"),
        ({"admin_write": {"token_file": "none"}}, "cannot be read"),
        ({"admin_write": {"certificates": ["a"]}}, "gateway.admin_tls.client_ca"),
    ],
)
def test_a_key_of_operators_that_cannot_be_used_is_told(tmp_path, access, words):
    """Or the admin port would be open, or shut, against what was meant."""
    with pytest.raises(ConfigError, match=words) as refused:
        load(wrote(tmp_path, **access), environ={"SHORT": "hunter2"})

    assert "hunter2" not in str(refused.value)


def test_keys_of_operators_alone_leave_clients_without(tmp_path):
    """Both halves of `access` stand for themselves; who may read may write unless a key differs."""
    path = wrote(tmp_path, admin_read={"token_env": "TOKEN"})
    loaded = load(path, environ={"TOKEN": KEY})

    assert loaded.access is None
    assert loaded.admin.read == loaded.admin.write
    assert loaded.admin.read is not None
    assert loaded.admin.read.digest == sha256(KEY.encode()).digest()
    assert change(loaded, load(path, environ={"TOKEN": KEY + "2"})).keys == ("access.admin",)
