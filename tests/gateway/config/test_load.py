"""The configuration file: what is accepted, and one clear line for each thing that is not."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.load import load
from gateway.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
GOOD: dict[str, Any] = {
    "prices": "aws-2026-07",
    "models": {"llama-3-8b": {"slo": {"ttft_s": 2.0, "tpot_s": 0.1}}},
    "pools": {
        gpu: {
            "model": "llama-3-8b",
            "profile": f"llama-3-8b/{gpu}",
            "backends": [f"http://127.0.0.1:{port}"],
        }
        for gpu, port in (("a10g", 9000), ("h100", 9001))
    },
}
GONE = object()


@pytest.fixture
def write(tmp_path):
    """Writes the good file with changes, `{"pools.a10g.model": value}`."""

    def make(changes=None):
        raw = copy.deepcopy(GOOD)
        for path, value in (changes or {}).items():
            *parents, last = path.split(".")
            node = raw
            for parent in parents:
                node = node.setdefault(parent, {})
            if value is GONE:
                del node[last]
            else:
                node[last] = value
        file = tmp_path / "cuvee.yaml"
        file.write_text(yaml.safe_dump(raw))
        return file

    return make


def problems(file):
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert all("\n" not in problem for problem in refused.value.problems)
    return list(refused.value.problems)


def test_a_good_file(write):
    """Prices come from the price file, counts from the URLs, the rest from defaults."""
    loaded = load(write())

    assert [p.name for p in loaded.pools] == ["a10g", "h100"]
    assert [(p.usd_per_hour, p.max_backends) for p in loaded.pools] == [(1.006, 1), (6.88, 1)]
    assert loaded.buckets.classes[0].model == "llama-3-8b"
    assert loaded.config.gateway.port == 8000
    assert loaded.workload is None


def test_what_the_file_says_wins(write):
    """Own prices, bounds, buckets and limits replace the defaults."""
    loaded = load(
        write(
            {
                "pools.h100.usd_per_hour": 2,
                "pools.h100.max_backends": 0,
                "buckets.per_octave": 2,
                "gateway.port": 1234,
                "planner.objective": "provision",
            }
        )
    )

    assert (loaded.pools[1].usd_per_hour, loaded.pools[1].max_backends) == (2.0, 0)
    assert loaded.buckets.grid.cells == 14 * 12
    assert loaded.config.gateway.port == 1234


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"gatway": {}}, "gatway: unknown key"),
        ({"gateway.prot": 1}, "gateway.prot: unknown key"),
        ({"pools.a10g.modle": 1}, "pools.a10g.modle: unknown key"),
        ({"models.llama-3-8b.slo.ttft": 1}, "models.llama-3-8b.slo.ttft: unknown key"),
        ({"gateway.port": "x"}, "gateway.port: expected `int`, got `str`"),
        (
            {"gateway.withheld_headers": ["a", "b:"]},
            "gateway.withheld_headers[1]: must be the name of a header: b:",
        ),
        ({"gateway.buffer_bytes": 9}, "gateway.buffer_bytes: must be ≥ max_body_bytes: 9 < "),
        ({"planner.objective": "best"}, "planner.objective: invalid enum value 'best'"),
        ({"pools.a10g.backends": [1]}, "pools.a10g.backends[0]: expected `str`, got `int`"),
        ({"pools.a10g.backends": "http://x"}, "pools.a10g.backends: expected `array`, got `str`"),
        ({"models.llama-3-8b.slo.tpot_s": "fast"}, "models.llama-3-8b.slo.tpot_s: expected"),
        ({"pools.a10g": None}, "pools.a10g: expected `object`, got `null`"),
        ({"pools.a10g.model": GONE}, "pools.a10g.model: missing"),
        ({"models.llama-3-8b.slo": GONE}, "models.llama-3-8b.slo: missing"),
        ({"pools": {}}, "pools: needs at least one entry"),
        ({"models": GONE}, "models: needs at least one entry"),
        ({"pools.a10g.usd_per_hour": -1}, "pools.a10g.usd_per_hour: must be ≥ 0: -1"),
        ({"pools.a10g.min_backends": 2}, "pools.a10g: 0 ≤ min_backends ≤ max_backends does not"),
        ({"pools.a10g.profile": "no.yaml"}, "pools.a10g.profile: "),
        ({"prices": "no.yaml"}, "prices: "),
        ({"prices": GONE, "pools.h100.usd_per_hour": 1}, "pools.a10g.usd_per_hour: missing"),
        ({"pools.a10g.model": "gpt"}, "pools.a10g.model: `gpt` is not in models"),
        ({"pools.a10g.backends": ["127.0.0.1"]}, "pools.a10g.backends[0]: must start with http"),
        ({"pools.a10g.backends": ["http://a:99999"]}, "pools.a10g.backends[0]: this is no URL"),
        ({"pools.a10g.backends": ["http://[::1"]}, "pools.a10g.backends[0]: this is no URL"),
        ({"pools.a10g.backends": ["http://"]}, "pools.a10g.backends[0]: this is no URL"),
        ({"pools.a10g.backends": ["http://a/\u20ac"]}, "pools.a10g.backends[0]: this is no URL"),
        ({"pools.a10g.backends": ["http://x"] * 2}, "pools.a10g.backends: a URL is listed twice"),
        ({"pools.a10g.backends": ["http://x", "http://x/"]},
         "pools.a10g.backends: a URL is listed twice"),
        ({"models.llama-3-8b.slo.ttft_s": -1}, "models.llama-3-8b.slo.ttft_s: must be positive"),
        ({"models.llama-3-8b.slo.attainment": 1}, "models.llama-3-8b.slo.attainment: must be in"),
        ({"models.llama-3-8b.bytes_per_token": 0}, "models.llama-3-8b.bytes_per_token: must be"),
        ({"gateway.idle_timeout_s": 0}, "gateway.idle_timeout_s: must be positive"),
        ({"gateway.port": 70000}, "gateway.port: must be between 0 and 65535: 70000"),
        ({"gateway.retries": -1}, "gateway.retries: must be not negative"),
        ({"planner.window_s": float("inf")}, "planner.window_s: must be positive and finite"),
        ({"planner.dispersion": float("nan")}, "planner.dispersion: must be positive and finite"),
        ({"buckets.input_from": 9000}, "buckets: no log-spaced edges from 9000 to 8192"),
        ({"planner.workload": "no.csv"}, "planner.workload: no such file"),
        ({"models.llama-3-8b.classes.batch": {"ttft": 9, "ttft_s": 1, "tpot_s": 1}},
         "models.llama-3-8b.classes.batch.ttft: unknown key"),
        ({"models.llama-3-8b.classes.batch": {"ttft_s": 9}},
         "models.llama-3-8b.classes.batch.tpot_s: missing"),
        ({"models.llama-3-8b.classes.batch": {"ttft_s": 0, "tpot_s": 1}},
         "models.llama-3-8b.classes.batch.ttft_s: must be positive"),
        ({"models.llama-3-8b.classes.default": {"ttft_s": 9, "tpot_s": 1}},
         "models.llama-3-8b.classes.default: the class `default` is models.llama-3-8b.slo"),
        ({"models.llama-3-8b.classes.": {"ttft_s": 9, "tpot_s": 1}},
         "models.llama-3-8b.classes.: the name must be printable ASCII"),
        ({"models.llama-3-8b.classes": ["batch"]}, "models.llama-3-8b.classes: expected `object`"),
        ({"models.other": {"slo": {"ttft_s": 1, "tpot_s": 1}}}, "models.other: no pool serves it"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_path_of_its_key(write, changes, line):
    """Whoever reads the line knows where to look and what is wrong."""
    [problem] = problems(write(changes))

    assert problem.startswith(line)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"prices": "aws-2025-07"}, "prices: unknown `aws-2025-07`; did you mean aws-2026-07?"),
        ({"prices": "no.yaml"}, "prices: "),
        ({"pools.h100.profile": "lama-3-8b/H100"},
         "pools.h100.profile: model: unknown `lama-3-8b`; did you mean Llama-3-8B"),
        ({"pools.h100.profile": "llama-3-8b/H1000"},
         "pools.h100.profile: gpu: unknown `H1000`; did you mean H100"),
        ({"pools.h100.profile": "h100"}, "pools.h100.profile: `h100` is no built-in name"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_one_line_with_what_is_near(write, changes, line):
    """Of prices and profiles alike; a path that does not exist is no name."""
    [problem] = problems(write(changes))

    assert problem.startswith(line)


def test_names_and_paths_mean_the_same_profile(write):
    """A file by its path, and by the built-in name of any case."""
    path = str(CONFIGS / "profiles" / "llama-3-8b" / "H100.yaml")
    loaded = load(write({"pools.a10g.profile": "LLAMA-3-8B/h100", "pools.h100.profile": path}))

    assert loaded.pools[0].profile == loaded.pools[1].profile


def test_a_gpu_with_its_own_numbers_may_have_its_own_price(write, tmp_path):
    """It counts where neither the pool nor the price file states one, times the GPUs."""
    profile: dict[str, Any] = {
        "format": "cuvee-profile/1",
        "origin": "analytic",
        "gpu": {
            "name": "B300", "memory_gib": 268, "bandwidth_gb_s": 8000,
            "tflops": {"fp16": 2250}, "usd_per_hour": 9.5,
        },
        "model": "Llama-3-70B",
        "tensor_parallel_size": 2,
    }  # fmt: skip
    (tmp_path / "b300.yaml").write_text(yaml.safe_dump(profile))
    changes = {"pools.h100.profile": "b300.yaml"}
    profile["gpu"]["name"] = "H100"
    (tmp_path / "h100.yaml").write_text(yaml.safe_dump(profile))

    def usd(**more):
        return load(write(changes | more)).pools[1].usd_per_hour

    assert usd() == 19.0
    assert usd(**{"pools.h100.profile": "h100.yaml"}) == 2 * 6.88
    assert usd(**{"pools.h100.usd_per_hour": 3}) == 3.0


def test_a_pool_that_no_bucket_can_use(write):
    """A promise that a GPU cannot keep at any size is told, with the promise."""
    found = problems(write({"models.llama-3-8b.slo.tpot_s": 0.012}))

    assert len(found) == 1
    assert found[0].startswith("pools.a10g: no bucket can use it: A10G cannot hold")


def test_every_class_has_its_own_promise(write):
    """Each model's `slo` is its class `default`, further classes follow it, model by model."""
    batch = {"ttft_s": 30, "tpot_s": 0.5, "attainment": 0.9}

    classes = load(write({"models.llama-3-8b.classes.batch": batch})).buckets.classes

    assert [(c.model, c.name, c.slo.tpot_s, c.slo.attainment) for c in classes] == [
        ("llama-3-8b", "default", 0.1, 0.99), ("llama-3-8b", "batch", 0.5, 0.9)
    ]  # fmt: skip


def test_a_price_of_zero_is_fine(write):
    """Hardware that is paid for costs nothing to plan with."""
    assert load(write({"pools.a10g.usd_per_hour": 0})).pools[0].usd_per_hour == 0


def test_one_mistake_does_not_hide_another(write):
    """Every section that is wrong has its line."""
    found = problems(
        write(
            {
                "pools.a10g.modle": 1,
                "pools.h100.backends": 3,
                "gateway.port": "x",
                "buckets.per_octave": 1.5,
                "nothing": 1,
            }
        )
    )

    assert [line.split(":")[0] for line in found] == [
        "pools.a10g.modle", "pools.h100.backends", "buckets.per_octave", "gateway.port", "nothing"
    ]  # fmt: skip


def test_one_section_may_have_many_mistakes(write):
    """Every key that is wrong has its line, not only the first one of a section."""
    found = problems(
        write(
            {"gateway.port": "x", "gateway.retries": 1.5, "gateway.prot": 1, "limits.stock": [{}]}
        )
    )

    assert found == [
        "limits.stock[0].gpu: missing",
        "limits.stock[0].most: missing",
        "gateway.port: expected `int`, got `str`",
        "gateway.retries: expected `int`, got `float`",
        "gateway.prot: unknown key",
    ]


def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path):
    """All but its last value would be lost without a word."""
    path = tmp_path / "cuvee.yaml"
    path.write_text("gateway: {port: 1}\nmodels: {}\npools:\n  a: {}\n  a: {}\ngateway: {}\n")

    assert problems(path) == [
        f"{path}: pools.a: stands twice, in lines 4 and 5",
        f"{path}: gateway: stands twice, in lines 1 and 6",
    ]


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://user:secret@a:1", "must not have a user or a password"),
        ("http://a:1?key=x", "must not have a query"), ("http://a:1/v1", "must not end in /v1"),
        ("http://a:1/v1/", "must not end in /v1"), ("http://a:1/b c", "this is no URL of a host"),
        ("http://a:1\r\nX: 1", "this is no URL of a host"),
    ],
)  # fmt: skip
def test_a_backends_url_is_a_base(write, url, fault):
    """What is not sent, or would be sent twice, is a mistake and no wish."""
    [line] = problems(write({"pools.a10g.backends": [url]}))

    assert line.startswith("pools.a10g.backends[0]: ")
    assert fault in line


def test_the_name_of_a_pool_is_one_line(write):
    """It stands in a header of every answer, where a line break would begin another header."""
    name = "a\r\nX-Injected: 1"
    found = problems(write({f"pools.{name}": GOOD["pools"]["a10g"] | {"backends": ["http://b"]}}))

    assert found == [f"pools.{name!r}: the name must be printable ASCII: it travels in a header"]


def test_files_that_are_missing_are_all_named(write):
    """A price list that cannot be read says nothing about the pools."""
    found = problems(
        write(
            {
                "prices": "no.yaml",
                "pools.a10g.profile": "gone.yaml",
                "pools.h100.backends": ["127.0.0.1:9001"],
                "planner.workload": "trace.csv",
            }
        )
    )

    assert [line.split(":")[0] for line in found] == [
        "prices", "pools.a10g.profile", "pools.h100.backends[0]", "planner.workload"
    ]  # fmt: skip


def test_values_are_all_checked_too(write):
    """Right types with wrong values are told together as well."""
    found = problems(
        write(
            {
                "pools.a10g.usd_per_hour": -1,
                "pools.h100.profile": "no.yaml",
                "gateway.idle_timeout_s": -5,
                "models.llama-3-8b.slo.ttft_s": 0,
            }
        )
    )

    assert sorted(line.split(":")[0] for line in found) == [
        "gateway.idle_timeout_s", "models.llama-3-8b.slo.ttft_s", "pools.a10g.usd_per_hour",
        "pools.h100.profile",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"models:\n  a: [1\nb: 2\n", "cuvee.yaml:3: "),
        (b"a: 1\n\tb: 2\n", "cuvee.yaml:2: "),
        (b"- 1\n", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"models: \xff\xfe\n", "cuvee.yaml"),
        (b"models: \x00\n", "cuvee.yaml"),
    ],
)
def test_what_is_not_yaml_names_the_line(tmp_path, content, said):
    """A broken file is one clear line."""
    file = tmp_path / "cuvee.yaml"
    file.write_bytes(content)

    [problem] = problems(file)

    assert said in problem


def test_a_file_that_is_not_there(tmp_path):
    """Neither a missing file nor a directory is a traceback."""
    assert "cannot be read" in problems(tmp_path / "no.yaml")[0]
    assert "cannot be read" in problems(tmp_path)[0]


def test_limits_and_what_concerns_one_pool_reach_the_planner(tmp_path: Path):
    """Stock, budget and spares bound the whole plan; reserved, zone and spot belong to a pool."""
    raw = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    raw["planner"] = {}
    raw["pools"]["a10g"] |= {"reserved": 2, "zone": "z1"}
    raw["pools"]["h100"]["spot"] = {"preemptions_per_hour": 0.1, "restart_s": 120}
    raw["limits"] = {"stock": [{"gpu": "H100", "most": 3}], "budget_usd_per_hour": 20, "survive": 1}
    path = tmp_path / "limits.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))

    found = load(path)

    assert (found.pools[0].reserved, found.pools[0].zone) == (2, "z1")
    assert found.pools[2].spot is not None
    assert found.limits.survive == 1
    assert found.limits.stock[0].most == 3

    raw["limits"] = {"stock": [{"gpu": "T4", "most": 1}], "survive": -1}
    raw["pools"]["h100"]["spot"] = {"preemptions_per_hour": -1, "restart_s": 120}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(ConfigError) as refused:
        load(path)
    problems = "\n".join(refused.value.problems)
    assert "pools.h100" in problems
    assert "preemptions_per_hour" in problems
