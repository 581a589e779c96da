"""What a new configuration changes, and what it cannot."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from gateway.config.change import change
from gateway.config.load import Loaded, load

PROFILE = """\
format: cuvee-profile/1
origin: analytic
gpu: H100
model: llama-3-8b
max_num_seqs: %d
"""


class File:
    """A configuration of two pools, one of them with a profile of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cuvee.yaml"
        self.own = folder / "own.yaml"
        self.own.write_text(PROFILE % 100)
        self.pools: dict[str, Any] = {
            name: {"model": "m", "profile": profile, "usd_per_hour": 1.0, "backends": [url]}
            for name, profile, url in (
                ("a", "llama-3-8b/H100", "http://a:1"), ("b", "own.yaml", "http://b:1")
            )
        }  # fmt: skip

    def loaded(self, *, ttft_s: float = 2.0, **gateway: Any) -> Loaded:
        raw = {
            "models": {"m": {"slo": {"ttft_s": ttft_s, "tpot_s": 0.12}}},
            "pools": self.pools,
            "gateway": gateway,
        }
        self.path.write_text(yaml.safe_dump(raw, sort_keys=False))
        return load(self.path)


@pytest.fixture
def file(tmp_path):
    return File(tmp_path)


def test_the_same_file_changes_nothing(file):
    """Read twice, it is equal in all that is made of it."""
    step = change(file.loaded(), file.loaded())

    assert (step.keys, step.restart, step.urls) == ((), (), {})


def test_keys_are_named_by_their_paths(file):
    """As deep as they go, and as a whole where a section is new or gone."""
    before = file.loaded()
    file.pools["c"] = file.pools.pop("a")
    file.pools["b"]["backends"] = ["http://b:1", "http://b:2"]
    step = change(before, file.loaded(ttft_s=3.0, retries=1))

    assert set(step.keys) == {
        "models.m.slo.ttft_s", "pools.a", "pools.b.backends", "pools.c", "gateway.retries"
    }  # fmt: skip
    assert step.urls == {"b": ("http://b:1", "http://b:2"), "c": ("http://a:1",)}


def test_a_pool_that_is_found_elsewhere_has_other_backends(file):
    """Also where its list is the same: what another source found is not in it."""
    file.pools["a"]["discover"] = {"file": "backends.yaml"}
    before = file.loaded()
    file.pools["a"].pop("discover")
    step = change(before, file.loaded())

    assert step.keys == ("pools.a.discover",)
    assert step.urls == {"a": ("http://a:1",)}


def test_a_profile_that_changed_is_named_by_its_key(file):
    """Although the configuration itself is the same."""
    before = file.loaded()
    file.own.write_text(PROFILE % 50)

    assert change(before, file.loaded()).keys == ("pools.b.profile",)


def test_ports_and_processes_stay(file):
    """They are named, and are as they were in what is put in force."""
    before = file.loaded(port=1, admin_port=2)
    step = change(before, file.loaded(port=9, host="::1", workers=4, drain_s=1.0))

    assert step.restart == ("gateway.host", "gateway.port", "gateway.workers", "gateway.admin_port")
    assert step.keys == ("gateway.drain_s",)
    assert step.loaded.config.gateway == msgspec.structs.replace(before.config.gateway, drain_s=1.0)


def test_all_files_are_known(file):
    """Its own first, then those that it names: all of them are watched."""
    names = [path.name for path in file.loaded().files]

    assert names[0] == "cuvee.yaml"
    assert {"H100.yaml", "own.yaml"} <= set(names)
