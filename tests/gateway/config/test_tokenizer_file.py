"""A tokenizer that cannot be used is told of with its key, before anything is served."""

import sys

import pytest
import yaml
from tokenizers import Tokenizer, models

from gateway.config.change import change
from gateway.config.load import load
from gateway.config.serving import serving
from gateway.errors import ConfigError


@pytest.fixture
def made(tmp_path):
    """Loads one model with this tokenizer."""

    def make(name="tokenizer.json"):
        pool = {
            "model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0,
            "backends": ["http://h:1"],
        }  # fmt: skip
        model = {"slo": {"ttft_s": 1.0, "tpot_s": 0.1}, "tokenizer": name}
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump({"models": {"m": model}, "pools": {"p": pool}}))
        return load(path)

    return make


def save(path, *words):
    Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)})).save(str(path))


def problem(made, **keys):
    with pytest.raises(ConfigError) as refused:
        made(**keys)
    (line,) = refused.value.problems
    return line.partition(": ")[2]


def test_a_file_travels_to_the_workers_and_is_watched(made, tmp_path):
    """By its absolute path, with what tells another content apart."""
    save(tmp_path / "tokenizer.json", "a")
    loaded = made()
    (model,) = serving(loaded).models

    assert model.tokenizer is not None
    assert model.tokenizer.path == str(tmp_path / "tokenizer.json")
    assert tmp_path / "tokenizer.json" in loaded.files

    save(tmp_path / "tokenizer.json", "a", "b")
    step = change(loaded, made())
    assert step.keys == ("models.m.tokenizer",)
    assert serving(step.loaded).models[0].tokenizer != model.tokenizer


def test_a_file_that_cannot_be_used_is_a_problem_of_its_key(made, tmp_path):
    """One that is not there, and one that is something else."""
    (tmp_path / "other.json").write_text("{}")

    assert problem(made).startswith("models.m.tokenizer: ")
    assert problem(made).endswith("tokenizer.json cannot be read: No such file or directory")
    told = problem(made, name="other.json")
    assert told.startswith("models.m.tokenizer: ")
    assert "other.json is no tokenizer: " in told


def test_without_the_package_the_extra_is_named(made, tmp_path, monkeypatch):
    """Python's own way to say that a module is not there."""
    save(tmp_path / "tokenizer.json", "a")
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    assert "models.m.tokenizer: " in problem(made)
    assert "pip install 'cuvee[tokenizers]'" in problem(made)
