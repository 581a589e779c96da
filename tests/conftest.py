"""Tests what the sources say, or nothing; and a configuration that several rooms use."""

from pathlib import Path

import pytest
import yaml

from gateway import runtime
from gateway.config.load import load

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def pytest_configure():
    """Stale extension modules would be tested in place of their sources."""
    if warnings := runtime.stale_warnings():
        raise pytest.UsageError("\n".join(warnings))


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Two models on the same three GPU types with eight H100 in all; the first has two classes."""
    raw = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    raw["planner"] = {}
    raw["models"]["llama-3-8b"]["classes"] = {
        "batch": {"ttft_s": 20, "tpot_s": 0.4, "attainment": 0.95}
    }
    raw["models"]["other"] = {"slo": {"ttft_s": 3.0, "tpot_s": 0.15, "attainment": 0.98}}
    raw["pools"] |= {
        f"{name}-other": pool
        | {"model": "other", "backends": [f"{url}/other" for url in pool["backends"]]}
        for name, pool in raw["pools"].items()
    }
    raw["limits"] = {"stock": [{"gpu": "H100", "most": 8}]}
    path = tmp_path_factory.mktemp("shared") / "shared.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load(path)
