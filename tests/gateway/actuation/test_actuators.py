"""A configuration makes an actuator for each pool that is scaled."""

import yaml

from gateway.actuation.actuators import actuators
from gateway.config.load import load

MODELS = {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}}


async def test_each_target_has_its_actuator(tmp_path, order):
    """By the pool's name; a pool without `scale` has none."""
    (tmp_path / "found.yaml").write_text("[]")
    targets = {
        "a": {"kubernetes": {"name": "vllm", "namespace": "models", "kind": "StatefulSet"}},
        "b": {"webhook": {"url": "https://scaler.example/orders?secret=1"}},
        "c": {"command": {"run": ["true", "{backends}"]}},
        "d": {"prometheus": True},
        "e": None,
    }
    known = {"model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0, "max_backends": 8}
    pools = {
        name: known | {"discover": {"file": "found.yaml"}, "scale": scale}
        for name, scale in targets.items()
    }
    path = tmp_path / "cuvee.yaml"
    path.write_text(yaml.safe_dump({"models": MODELS, "pools": pools}))
    made = actuators(load(path))

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
