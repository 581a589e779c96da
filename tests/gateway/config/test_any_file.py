"""Whatever a configuration file holds, it is loaded or refused in words."""

import copy
import random
from pathlib import Path

import pytest
import yaml

from gateway.config.load import load
from gateway.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
FILES = 150
VALUES = [
    None, True, 0, -1, 7, 2000, 1e9, float("nan"), float("inf"), 10**30, "", "x", "\r\n", "é",
    "${NO}", "${HOME}", "http://a/v1", [], [1], ["x"], ["http://127.0.0.1:18101"], {}, {"a": 1},
    {1: 2}, "llama-3-8b/A10G", "demo.yaml",
]  # fmt: skip
NAMES = ["zz", "a\r\nb", 7, None, True, "", "modle"]


def places(node):
    """Every mapping or list in a file, with each of its keys or indices."""
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


def spoil(raw, random_):
    """Change one value, remove one, rename one or copy one."""
    node, key = random_.choice(list(places(raw)))
    what = random_.random()
    if what < 0.6 or isinstance(node, list):
        node[key] = copy.deepcopy(random_.choice(VALUES))
    elif what < 0.75:
        del node[key]
    else:
        node[random_.choice(NAMES)] = copy.deepcopy(node[key]) if what < 0.85 else node.pop(key)


@pytest.mark.long
def test_every_file_is_loaded_or_refused_in_lines(tmp_path):
    """No other error than ConfigError, and one line for each problem."""
    good = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    del good["planner"]["workload"]
    good["models"]["llama-3-8b"]["classes"] = {"batch": {"ttft_s": 30, "tpot_s": 0.5}}
    good["limits"] = {"stock": [{"gpu": "H100", "most": 3}], "survive": 1}
    any_of = {"gpu": ["L4", "H100"], "dtype": ["fp16", "fp8"], "tensor_parallel_size": [1, 2]}
    good["pools"]["a10g"]["any_of"] = any_of | {"profile": ["llama-3-8b/L4"]}
    path, random_ = tmp_path / "cuvee.yaml", random.Random(1)
    refused = []
    for _ in range(FILES):
        raw = copy.deepcopy(good)
        for _ in range(random_.choice([1, 1, 2, 5])):
            if raw:
                spoil(raw, random_)
        path.write_text(yaml.safe_dump(raw, allow_unicode=True))
        try:
            load(path)
        except ConfigError as error:
            refused.append(error.problems)

    assert FILES > len(refused) > FILES / 2
    assert all(refused)
    assert all(line.isprintable() for problems in refused for line in problems)
