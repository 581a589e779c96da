"""The section of several gateways: what is wrong with it is said by its key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.load import Loaded, load
from gateway.errors import ConfigError


def loaded(folder: Path, **cluster: Any) -> Loaded:
    raw = {
        "models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": {
            "a": {
                "model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0,
                "backends": ["http://a:1"], "zone": "east",
            }
        },
        "gateway": {"cluster": {"redis": "redis://r:6379/0"} | cluster},
    }  # fmt: skip
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    return load(path, environ={"SECRET": "s3"})


def test_a_password_may_come_from_the_environment(tmp_path: Path):
    """As any other value may."""
    section = loaded(tmp_path, redis="redis://u:${SECRET}@r:6379/0").config.gateway.cluster

    assert section is not None
    assert section.redis == "redis://u:s3@r:6379/0"
    assert (section.view_s, section.zone) == (0.1, None)


@pytest.mark.parametrize(
    ("cluster", "line"),
    [
        ({"redis": "http://r:1"}, "gateway.cluster.redis"),
        ({"redis": "redis://r:port/0"}, "gateway.cluster.redis"),
        ({"password_file": "gone"}, "gateway.cluster.password_file: no such file"),
        ({"ca_file": "cuvee.yaml"}, "gateway.cluster.ca_file: redis:// has no certificates"),
        (
            {"redis": "redis://u:p@r:1/0", "password_file": "cuvee.yaml"},
            "gateway.cluster.password_file: the URL has a password already",
        ),
        ({"view_s": 0.001}, "gateway.cluster.view_s"),
        ({"name": "a b"}, "gateway.cluster.name"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, cluster: dict[str, Any], line: str):
    """By the path of its key."""
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, **cluster)

    assert any(line in problem for problem in error.value.problems), error.value.problems


def test_a_zone_without_a_pool_is_hardly_wanted(tmp_path: Path):
    """A warning, since pools may come later."""
    assert loaded(tmp_path, zone="east").warnings == ()
    (warning,) = loaded(tmp_path, zone="west").warnings
    assert "gateway.cluster.zone: no pool is in west" in warning
