"""The configuration file: what is accepted, and one clear line for each thing that is not."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.load import load, without_file
from gateway.config.schema import BucketSection
from gateway.errors import ConfigError
from planner.errors import InvalidValue
from planner.slo import Slo

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


def problems(file, **options):
    """The problems of a file, without its name and lines."""
    with pytest.raises(ConfigError) as refused:
        load(file, **options)
    assert all("\n" not in problem for problem in refused.value.problems)
    return [bare(file, line) for line in refused.value.problems]


def warnings(file):
    """The warnings about a file that can be used, without its name and lines."""
    return [bare(file, line) for line in load(file).warnings]


def bare(file, line):
    return re.sub(rf"^{re.escape(str(file))}(:\d+)?: ", "", line)


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
        ({"gatway": {}}, "gatway: unknown key; did you mean gateway?"),
        ({"gateway.prot": 1}, "gateway.prot: unknown key; did you mean port?"),
        ({"pools.a10g.zoen": "z"}, "pools.a10g.zoen: unknown key; did you mean zone?"),
        ({"models.llama-3-8b.slo.ttft": 1}, "models.llama-3-8b.slo.ttft: unknown key"),
        ({"gateway.port": "x"}, "gateway.port: must be a whole number, is text: x"),
        (
            {"gateway.withheld_headers": ["a", "b:"]},
            "gateway.withheld_headers[1]: must be the name of a header: b:",
        ),
        ({"gateway.buffer_bytes": 9}, "gateway.buffer_bytes: 9 is less than max_body_bytes, "),
        ({"planner.objective": "best"}, "planner.objective: best is none of provision, assign"),
        ({"pools.a10g.backends": [1]}, "pools.a10g.backends[0]: must be text, is a number"),
        ({"pools.a10g.backends": "http://x"}, "pools.a10g.backends: must be a list, is text"),
        ({"models.llama-3-8b.slo.tpot_s": "fast"},
         "models.llama-3-8b.slo.tpot_s: must be a number, is text: fast"),
        ({"pools.a10g": None}, "pools.a10g: must be a mapping, is empty"),
        ({"pools.a10g.model": GONE}, "pools.a10g.model: missing"),
        ({"models.llama-3-8b.slo": GONE}, "models.llama-3-8b.slo: missing"),
        ({"pools.a10g.backends": GONE}, "pools.a10g.backends: missing"),
        ({"pools.a10g.discover": {}}, "pools.a10g.discover: needs "),
        ({"pools.a10g.discover": {"file": "."}}, "pools.a10g.discover.file: a folder: "),
        ({"pools.a10g.discover": {"file": "x", "dns": {"name": "x", "port": 1}}},
         "pools.a10g.discover: needs one of `file` or `dns`"),
        ({"pools.a10g.discover": {"dns": {"name": "x"}}}, "pools.a10g.discover.dns.port: missing"),
        ({"pools.a10g.discover": {"dns": {"name": "x", "port": 80, "record": "srv"}}},
         "pools.a10g.discover.dns.port: of `srv`"),
        ({"pools.a10g.discover": {"kubernetes": {"selector": "a=b", "scheme": "https"}}},
         "pools.a10g.discover.kubernetes.scheme: https needs `tls_server_name`"),
        ({"pools.a10g.tls_server_name": "a b"}, "pools.a10g.tls_server_name: must be a name of"),
        ({"pools.a10g.discover": {"dns": {"name": "x", "port": 80, "server": "ns:53"}}},
         "pools.a10g.discover.dns.server: must be ADDRESS or ADDRESS:PORT: ns:53"),
        ({"pools": {}}, "pools: needs at least one entry"),
        ({"models": GONE}, "models: missing"),
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
        ({"pools.a10g.backends": ["http://x"] * 2},
         "pools.a10g.backends[1]: http://x is the backend http://x of pools.a10g.backends[0]"),
        ({"models.llama-3-8b.slo.ttft_s": -1}, "models.llama-3-8b.slo.ttft_s: must be positive"),
        ({"models.llama-3-8b.slo.attainment": 1}, "models.llama-3-8b.slo.attainment: must be in"),
        ({"models.llama-3-8b.bytes_per_token": 0}, "models.llama-3-8b.bytes_per_token: must be"),
        ({"gateway.idle_timeout_s": 0}, "gateway.idle_timeout_s: must be positive"),
        ({"gateway.port": 70000}, "gateway.port: must be between 0 and 65535: 70000"),
        ({"gateway.retries": -1}, "gateway.retries: must be not negative"),
        ({"planner.window_s": float("inf")}, "planner.window_s: must be positive and finite"),
        ({"planner.dispersion": float("nan")}, "planner.dispersion: must be positive and finite"),
        ({"buckets.per_octave": 10**30}, "buckets.per_octave: must be 1 to 8: 1000000"),
        ({"buckets.input_to": 10**9}, "buckets.input_to: must be in tokens, 1 to ten million: 1"),
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
        ({"models.llama-3-8b.classes": ["batch"]}, "models.llama-3-8b.classes: must be a mapping"),
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
    """A promise that a GPU cannot keep at any size is told, with the promise; it does no harm."""
    found = warnings(write({"models.llama-3-8b.slo.tpot_s": 0.012}))

    assert found == [
        "pools.a10g.profile: A10G holds no TTFT 2 s and TPOT 12 ms at any size; at best TTFT 0.071 "
        "s, TPOT 32 ms"
    ]


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

    assert sorted(line.split(":")[0] for line in found) == [
        "buckets.per_octave", "gateway.port", "nothing", "pools.a10g.modle", "pools.h100.backends",
    ]  # fmt: skip


def test_one_section_may_have_many_mistakes(write):
    """Every key that is wrong has its line, not only the first one of a section."""
    found = problems(
        write(
            {"gateway.port": "x", "gateway.retries": 1.5, "gateway.prot": 1, "limits.stock": [{}]}
        )
    )

    assert found == [  # in the order of the file
        "gateway.port: must be a whole number, is text: x",
        "gateway.prot: unknown key",
        "gateway.retries: must be a whole number: 1.5",
        "limits.stock[0].gpu: missing",
        "limits.stock[0].most: missing",
    ]


def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path):
    """All but its last value would be lost without a word."""
    path = tmp_path / "cuvee.yaml"
    path.write_text("gateway: {port: 1}\nmodels: {}\npools:\n  a: {}\n  a: {}\ngateway: {}\n")

    with pytest.raises(ConfigError) as refused:
        load(path)

    assert list(refused.value.problems) == [
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

    assert sorted(line.split(":")[0] for line in found) == [
        "planner.workload", "pools.a10g.profile", "pools.h100.backends[0]", "prices"
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

    with pytest.raises(ConfigError) as refused:
        load(file)

    [problem] = refused.value.problems
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


def test_a_problem_names_the_line_of_its_key(tmp_path: Path):
    """Of a key that is missing it is the line of the section, and of an alias that of its name."""
    path = tmp_path / "cuvee.yaml"
    path.write_text(
        "models:\n"
        "  m: {slo: {ttft_s: 1}}\n"
        "pools:\n"
        "  a: &pool\n"
        "    model: m\n"
        "    profile: llama-3-8b/H100\n"
        "    usd_per_hour: 1\n"
        "    backends:\n"
        "      - http://a\n"
        "      - b\n"
        "    zoen: z\n"
        "  c: *pool\n"
        "gatway: {}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load(path)

    places = [line.removeprefix(f"{path}:").split(": ")[:2] for line in refused.value.problems]
    assert places == [
        ["2", "models.m.slo.tpot_s"], ["10", "pools.a.backends[1]"], ["11", "pools.a.zoen"],
        ["12", "pools.c.zoen"], ["12", "pools.c.backends[1]"], ["12", "pools.c.backends[0]"],
        ["13", "gatway"],
    ]  # fmt: skip


def test_a_pool_with_a_mistake_is_looked_at_further(write):
    """A required key that is missing or misspelled does not hide what else is wrong."""
    found = problems(
        write(
            {
                "pools.a10g.model": GONE,
                "pools.a10g.modle": "llama-3-8b",
                "pools.a10g.backends": ["http://a/v1"],
                "pools.h100.backends": GONE,
                "pools.h100.profile": "gone.yaml",
            }
        )
    )

    assert [line.split(": ")[:2] for line in found] == [
        ["pools.a10g.backends[0]", "must not end in /v1"],
        ["pools.a10g.modle", "unknown key; did you mean model?"],
        ["pools.h100.backends", "missing"],
        ["pools.h100.profile", f"{found[3].split(': ')[1]}"],
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"models.llama-3-8b.slo.ttft_s": 2000},
         "models.llama-3-8b.slo.ttft_s: is in seconds, at most 600: 2000 ms are 2"),
        ({"models.llama-3-8b.slo.tpot_s": 120},
         "models.llama-3-8b.slo.tpot_s: is in seconds, at most 10: 120 ms are 0.12"),
        ({"models.llama-3-8b.classes.fast": {"ttft_s": 1, "tpot_s": 0.001}},
         "models.llama-3-8b.classes.fast: no pool holds TTFT 1 s and TPOT 1 ms at any size; at "
         "best: a10g TTFT 0.071 s, TPOT 32 ms; h100 TTFT 0.0"),
        ({"models.llama-3-8b.slo.ttft_s": 0.001},
         "models.llama-3-8b.slo: no pool holds TTFT 0.001 s and TPOT 100 ms at any size"),
        ({"pools.a10g.model": "m\r\nx"}, "pools.a10g.model: `'m\\r\\nx'` is not in models"),
        ({"planner.interval_s": 600}, "planner.interval_s: 600 is longer than planner.window_s"),
        ({"pools.a10g.model": "llama-3-8"},
         "pools.a10g.model: `llama-3-8` is not in models; did you mean llama-3-8b?"),
        ({"limits.stock": [{"gpu": "H10", "most": 1}]},
         "limits.stock[0].gpu: no pool has H10; did you mean H100?"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_a_problem(write, changes, line):
    """It has the right type, and would be found out in production."""
    [problem] = problems(write(changes))

    assert problem.startswith(line)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"pools.a10g.usd_per_hour": 0}, "pools.a10g.usd_per_hour: 0: a plan takes as many"),
        ({"pools.a10g.max_backends": 50}, "pools.a10g.max_backends: 50, and `backends` has 1"),
        ({"pools.a10g.backends": []}, "pools.a10g.backends: none"),
        ({"pools.a10g.profile": "llama-2-7b/A10G"},
         "pools.h100.profile: it is of Llama-3-8B, that of a10g of Llama-2-7B"),
        ({"models.llama-3-8b.slo.ttft_s": 300},
         "models.llama-3-8b.slo.ttft_s: 300 s is longer than gateway.first_byte_timeout_s, 120 s"),
    ],
)  # fmt: skip
def test_what_is_hardly_wanted_is_a_warning(write, changes, line):
    """The gateway starts with it."""
    [warning] = warnings(write(changes))

    assert warning.startswith(line)


def test_a_good_file_has_no_warning(write):
    """Nor has the one that ships."""
    assert load(write()).warnings == load(CONFIGS / "demo.yaml").warnings == ()


@pytest.mark.parametrize("name", ["a\r\nb", "\u2028", " a", "", "a\x00"])
def test_names_are_one_word_or_more_on_one_line(write, name):
    """Of models too: they stand in paths, in logs and in labels of metrics."""
    slo = {"slo": {"ttft_s": 1.0, "tpot_s": 0.1}}
    pool = GOOD["pools"]["a10g"] | {"model": name, "backends": ["http://b"]}
    raw = copy.deepcopy(GOOD)
    raw["models"][name], raw["pools"]["b"] = slo, pool
    path = write()
    path.write_text(yaml.safe_dump(raw))

    [problem] = problems(path)

    assert "the name must be printable" in problem


def test_variables_of_the_environment_stand_in_values(write):
    """As text or, where a number is wanted, as a number."""
    changes = {
        "gateway.port": "${PORT}",
        "pools.a10g.backends": ["http://${HOST:-gpu-1}:${BACKEND_PORT}"],
        "pools.a10g.zone": "${ZONE}",
    }
    environ = {"PORT": "8123", "BACKEND_PORT": "9009", "ZONE": "7"}

    loaded = load(write(changes), environ=environ)

    assert loaded.config.gateway.port == 8123
    assert loaded.config.pools["a10g"].backends == ("http://gpu-1:9009",)
    assert loaded.config.pools["a10g"].zone == "7"
    assert problems(write(changes), environ={"PORT": "x", "ZONE": ""}) == [
        "gateway.port: must be a whole number, is text: x",
        "pools.a10g.backends[0]: the environment has no variable BACKEND_PORT",
    ]


def test_the_command_lines_settings_are_those_that_are_checked(write):
    """A port in the file that is not used can be anybody's."""
    path = write({"gateway.port": 9000})

    assert "this gateway itself" in problems(path)[0]
    assert load(path, gateway={"port": 0}).config.gateway.port == 0
    assert problems(path, gateway={"port": 70000})[0].startswith("gateway.port: must be between")


def test_values_without_a_file_are_those_of_a_file(write):
    """The same model, promise and grid: a plan cannot tell whether there was a file."""
    loaded = load(write())
    slo = Slo(ttft_s=2.0, tpot_s=0.1)
    made = without_file("llama-3-8b", slo, loaded.pools, BucketSection())

    assert made.buckets == loaded.buckets
    assert made.pools == loaded.pools
    assert made.limits == loaded.limits
    assert made.config.models == loaded.config.models
    with pytest.raises(InvalidValue, match="ttft_s is in seconds"):
        without_file("llama-3-8b", Slo(ttft_s=2000, tpot_s=0.1), (), BucketSection())
