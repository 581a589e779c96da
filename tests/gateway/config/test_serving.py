"""What of the configuration travels to the workers."""

import yaml

from gateway.config.load import load
from gateway.config.serving import serving


def test_serving_processes_get_the_models_and_the_engines(tmp_path):
    """Every model with its pools and its longest context, and the engine of each pool that names
    one; of promises and profiles nothing."""
    pool = {
        "model": "m",
        "profile": "llama-3-8b/H100",
        "usd_per_hour": 1.0,
        "backends": ["http://127.0.0.1:1"],
    }
    raw = {
        "models": {
            "m": {"slo": {"ttft_s": 1.0, "tpot_s": 0.1}, "bytes_per_token": 3.5},
            "n": {"slo": {"ttft_s": 1.0, "tpot_s": 0.1}},
        },
        "pools": {
            "a": pool | {"engine": "sglang"},
            "b": pool | {"backends": ["http://127.0.0.1:2"]},
            "c": pool | {"model": "n", "backends": ["http://127.0.0.1:3"]},
        },
    }
    path = tmp_path / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    loaded = load(path)

    config = serving(loaded)

    assert [(model.name, model.pools) for model in config.models] == [
        ("m", ("a", "b")),
        ("n", ("c",)),
    ]
    assert config.models[0].max_model_len == loaded.pools[0].profile.max_model_len
    assert config.bytes_per_token["m"] == 3.5
    assert {n: u.engine for n, u in config.upstreams.items()} == {
        "a": "sglang",
        "b": None,
        "c": None,
    }
    assert config.gateway == loaded.config.gateway
