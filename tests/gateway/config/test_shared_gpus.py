"""GPUs that pools share: what is made of the sections, and what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.load import Loaded, load
from gateway.errors import ConfigError
from planner.model.pool import SharedGpus

RACK = {"shared_gpus": {"rack": {"gpus": 4, "usd_per_hour": 20.0}}}


def pool(**keys: Any) -> dict[str, Any]:
    scale = {"prometheus": True, "most": 4}
    return {
        "model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 5.0, "shared_gpus": "rack",
        "discover": {"file": "found.yaml"}, "scale": scale,
    } | keys  # fmt: skip


def loaded(folder: Path, *, limits: Any = RACK, **pools: dict[str, Any]) -> Loaded:
    (folder / "found.yaml").write_text("[]")
    models = {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}}
    raw = {"models": models, "pools": pools, "limits": limits}
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load(path)


def test_pools_of_a_group_share_its_gpus_and_its_price(tmp_path):
    """A backend costs next to nothing more; one of a pool without a group costs its price."""
    made = loaded(tmp_path, a=pool(), b=pool(), own=pool(shared_gpus=None))

    assert made.warnings == ()
    assert made.pools[0].shared == made.pools[1].shared == SharedGpus(
        name="rack", gpus=4, usd_per_hour=20.0
    )  # fmt: skip
    assert made.pools[0].usd_per_hour == pytest.approx(0.0005)
    assert (made.pools[2].shared, made.pools[2].usd_per_hour) == (None, 5.0)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"shared_gpus": "rock"}, r"has no rock; did you mean rack\?"),
        ({"profile": "llama-3-8b/A10G"}, "A10G, and another pool of rack has H100"),
        ({"any_of": {"gpu": ["A10G"]}}, "has no alternatives"),
        ({"reserved": 1}, "neither reserved nor spot"),
    ],
)
def test_what_cannot_be_shared_is_told(tmp_path, keys, problem):
    with pytest.raises(ConfigError, match=problem):
        loaded(tmp_path, a=pool(), b=pool(**keys))


def test_a_group_of_no_pool_and_a_pool_that_cannot_be_woken_are_told(tmp_path):
    """Both are of no use as they are."""
    one = {"gpus": 1, "usd_per_hour": 1.0}
    limits = {"shared_gpus": {"rack": one, "other": one}}
    warnings = loaded(tmp_path, limits=limits, a=pool(), b=pool(scale=None)).warnings

    assert [line.split(": ", 1)[1] for line in warnings] == [
        "pools.b.shared_gpus: without `scale` the gateway wakes none and puts none to sleep",
        "limits.shared_gpus.other: no pool has it: its price is in no plan",
    ]
