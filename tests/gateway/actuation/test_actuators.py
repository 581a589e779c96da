"""A configuration makes an actuator for each pool that is scaled."""

import pytest
import yaml

from gateway.actuation.actuators import actuators, made_from
from gateway.config.load import load

MODELS = {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}}


@pytest.fixture
def scaled(tmp_path):
    """Makes configurations of pools with these sections `scale`."""
    (tmp_path / "found.yaml").write_text("[]")
    known = {"model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0, "max_backends": 8}

    def make(targets: dict, **more):
        pools = {
            name: known | {"discover": {"file": "found.yaml"}, "scale": scale} | more
            for name, scale in targets.items()
        }
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump({"models": MODELS, "pools": pools}))
        return load(path)

    return make


TARGETS: dict[str, dict | None] = {
    "a": {"kubernetes": {"name": "vllm", "namespace": "models", "kind": "StatefulSet"}},
    "b": {"webhook": {"url": "https://scaler.example/orders?secret=1"}},
    "c": {"command": {"run": ["true", "{backends}"]}},
    "d": {"prometheus": True},
    "e": None,
}


async def test_each_target_has_its_actuator(scaled, order):
    """By the pool's name; a pool without `scale` has none."""
    made = actuators(scaled(TARGETS))

    assert {name: one.name for name, one in made.items()} == {
        "a": "statefulset models/vllm",
        "b": "webhook https://scaler.example/orders",
        "c": "command true",
        "d": 'prometheus cuvee_desired_backends{pool="d"}',
    }
    for name in ("c", "d"):
        await made[name].apply(order())
    for one in made.values():
        await one.aclose()


def test_what_an_actuator_is_made_from_tells_whether_it_stays(scaled):
    """The same after a reload that changes something else, another one where it does."""
    before = made_from(scaled(TARGETS))
    other = made_from(scaled(TARGETS | {"d": {"prometheus": True, "most": 2}, "e": TARGETS["d"]}))

    assert {name for name in other if other[name] == before.get(name)} == {"a", "b", "c"}
    assert made_from(scaled(TARGETS, zone="z"))["a"] != before["a"]
