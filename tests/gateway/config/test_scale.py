"""Where wished numbers of backends go: what is wrong with it is told by key and line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.change import change
from gateway.config.load import Loaded, load
from gateway.config.scale import bounds_of, kind_of, prefix_of
from gateway.errors import ConfigError

MODELS = {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}}
DEPLOYMENT = {"kubernetes": {"name": "vllm"}}
ENVIRONMENT = {"KEY": "secret", "PATH": "/usr/bin:/bin"}
EACH = {
    "list": ["env"],
    "launch": ["env", "{name}", "{number}", "{pool}"],
    "stop": ["env", "{name}"],
}


def pool(scale: dict[str, Any] | None, **keys: Any) -> dict[str, Any]:
    """A pool that finds its backends in a file."""
    found = {"model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0, "max_backends": 8}
    return found | {"discover": {"file": "found.yaml"}, "scale": scale} | keys


def loaded(folder: Path, pools: dict[str, Any], **keys: Any) -> Loaded:
    """A configuration of these pools."""
    (folder / "found.yaml").write_text("[]")
    (folder / "key").write_text("secret")
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump({"models": MODELS, "pools": pools} | keys, sort_keys=False))
    return load(path, environ=ENVIRONMENT)


@pytest.mark.parametrize(
    "scale",
    [
        DEPLOYMENT,
        {"kubernetes": {"name": "v", "kind": "LeaderWorkerSet", "namespace": "models"}},
        {"kubernetes": {"name": "v", "kind": "X", "api_version": "x.io/v1", "plural": "xs"}},
        {"kubernetes": {"name": "v", "mark_leaving": True, "api_server": "http://127.0.0.1:8001"}},
        {"webhook": {"url": "https://scaler.example/orders?x=1", "key_file": "key"}},
        {"webhook": {"url": "http://[::1]:8080", "key_env": "KEY", "headers": {"x-a": "b"}}},
        {"command": {"run": ["env", "--pool={pool}", "{backends}", '{"json": 1}']}},
        {"command": EACH | {"prefix": "mine-h100", "final_codes": [75], "environment": ["KEY"]}},
        {"prometheus": True, "least": 1, "most": 4, "startup_s": 60},
    ],
    ids=str,
)
def test_every_target_can_be_named(tmp_path, scale):
    """Without a word of warning."""
    assert loaded(tmp_path, {"a": pool(scale)}).warnings == ()


@pytest.mark.parametrize(
    ("scale", "problem"),
    [
        ({}, "scale: needs one of kubernetes, webhook, command, prometheus, and has none"),
        ({"prometheus": False}, "scale: needs one of kubernetes, webhook, command, prometheus"),
        (DEPLOYMENT | {"prometheus": True}, "and has kubernetes and prometheus"),
        (DEPLOYMENT | {"most": 9}, "scale.most: 9 is more than the pool's max_backends, 8"),
        (DEPLOYMENT | {"least": 5, "most": 4}, "scale.least: at least 5 and at most 4"),
        (DEPLOYMENT | {"most": 0}, "scale.most: must be positive"),
        (DEPLOYMENT | {"startup_s": 0}, "scale.startup_s: must be positive and finite"),
        ({"kubernetes": {"name": "V"}}, "kubernetes.name: this is no name of an object: V"),
        ({"kubernetes": {}}, "kubernetes.name: missing"),
        (
            {"kubernetes": {"name": "v", "kind": "deployment"}},
            "kubernetes.kind: deployment needs `api_version` and `plural`; did you mean Deployment",
        ),
        (
            {"kubernetes": {"name": "v", "api_version": "apps"}},
            "kubernetes.api_version: this is no group and version: apps",
        ),
        (
            {"kubernetes": {"name": "v", "plural": "a/b"}},
            "kubernetes.plural: this is no name of a resource: a/b",
        ),
        (
            {"kubernetes": {"name": "v", "token_file": "key"}},
            "kubernetes.token_file: needs `api_server`",
        ),
        ({"webhook": {"url": "ftp://x"}}, "webhook.url: must be a URL of http or https"),
        ({"webhook": {"url": "https://u:p@x/"}}, "webhook.url: must not have a user"),
        ({"webhook": {"url": "https://x/#a"}}, "webhook.url: must not have a fragment"),
        ({"webhook": {"url": "https://x/a b"}}, "webhook.url: must be ASCII without blanks"),
        (
            {"webhook": {"url": "https://x", "key_file": "key", "key_env": "KEY"}},
            "webhook.key_file: key_env is there too",
        ),
        (
            {"webhook": {"url": "https://x", "key_env": "KEY", "headers": {"Host": "y"}}},
            "webhook.headers.Host: the gateway writes this header itself",
        ),
        ({"webhook": {"url": "https://x", "key_file": "no"}}, "webhook.key_file: no such file"),
        (
            {"webhook": {"url": "https://x", "key_env": "NO"}},
            "webhook.key_env: the variable NO has no value",
        ),
        (
            {"webhook": {"url": "https://x", "key_env": "KEY", "give_up_s": 5}},
            "webhook.give_up_s: 5 is shorter than timeout_s, 10",
        ),
        ({"command": {}}, "command: needs `run`, or `list`, `launch` and `stop`"),
        ({"command": EACH | {"run": ["env", "{backends}"]}}, "command: has `run` and `list`"),
        ({"command": {"launch": ["env", "{name}"]}}, "command.list: missing"),
        ({"command": {"run": ["env"]}}, "command.run: {backends} is in none of its words"),
        ({"command": EACH | {"stop": ["env"]}}, "command.stop: {name} is in none of its words"),
        (
            {"command": {"run": ["env", "{backends}", "{pol}"]}},
            "command.run[2]: {pol} is not known here; did you mean pool",
        ),
        (
            {"command": {"run": ["env", "{backends}", "{name}"]}},
            "command.run[2]: {name} is not known here",
        ),
        (
            {"command": {"run": ["{pool}", "{backends}"]}},
            "command.run[0]: the program itself cannot have a placeholder",
        ),
        ({"command": EACH | {"prefix": "A_b"}}, "command.prefix: must be lower-case letters"),
        ({"command": EACH | {"final_codes": [0]}}, "command.final_codes[0]: must be between 1"),
    ],
    ids=str,
)
def test_what_could_go_nowhere_is_told(tmp_path, scale, problem):
    """With its key, before the gateway starts."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, {"a": pool(scale)})

    assert len(caught.value.problems) == 1, caught.value.problems
    assert problem in caught.value.problems[0]
    assert ": pools.a.scale" in caught.value.problems[0]


def test_what_is_started_must_be_found(tmp_path):
    """A pool with a fixed list would order for ever; one without a bound has none."""
    fixed = pool(DEPLOYMENT, backends=["http://a:1"], discover=None)
    with pytest.raises(ConfigError, match=r"pools.a.scale: needs `discover`"):
        loaded(tmp_path, {"a": fixed})
    with pytest.raises(ConfigError, match=r"pools.a.scale.most: missing"):
        loaded(tmp_path, {"a": pool(DEPLOYMENT, max_backends=None)})


def test_two_pools_do_not_scale_one_thing(tmp_path):
    """They would take turns in changing it."""
    with pytest.raises(ConfigError, match=r"pools.b.scale.kubernetes: the same as pools.a.scale"):
        loaded(tmp_path, {"a": pool(DEPLOYMENT), "b": pool(DEPLOYMENT)})
    each = {"command": EACH | {"prefix": "one"}}
    with pytest.raises(ConfigError, match=r"pools.b.scale.command.prefix: the same as pools.a"):
        loaded(tmp_path, {"a": pool(each), "b": pool(each)})


def test_what_hardly_anybody_wants_is_a_warning(tmp_path):
    """Unsigned wishes, programs that are not there, costs that nothing reads."""
    pools = {
        "a": pool({"webhook": {"url": "https://x"}}),
        "b": pool({"command": {"run": ["no-such-program", "{backends}"]}}),
        "c": pool({"command": {"run": ["./none.sh", "{backends}"]}}),
        "d": pool({"kubernetes": {"name": "d", "kind": "StatefulSet", "mark_leaving": True}}),
    }
    warnings = loaded(tmp_path, pools).warnings

    assert [line.split(": ", 1)[1].split(":")[0] for line in warnings] == [
        "pools.a.scale.webhook",
        "pools.b.scale.command.run[0]",
        "pools.c.scale.command.run[0]",
        "pools.d.scale.kubernetes.mark_leaving",
    ]


def test_sleep_that_saves_nothing_is_a_warning(tmp_path):
    """Without a price of its own, or at that of one that is awake: none will be put to sleep."""
    pools = {
        "a": pool({"prometheus": True, "asleep": 2}, usd_per_hour=2.0),
        "b": pool({"prometheus": True, "asleep": 2, "asleep_usd_per_hour": 2.5}, usd_per_hour=2.0),
        "c": pool({"prometheus": True, "asleep": 2, "asleep_usd_per_hour": 0.0}, usd_per_hour=2.0),
        "d": pool({"prometheus": True}, usd_per_hour=2.0),
    }
    warnings = loaded(tmp_path, pools).warnings

    assert [line.split(": ", 1)[1] for line in warnings] == [
        "pools.a.scale.asleep_usd_per_hour: the pool's price, as awake: 2 may sleep, and none is "
        "put to sleep",
        "pools.b.scale.asleep_usd_per_hour: $2.5, as awake: 2 may sleep, and none is put to sleep",
    ]


def test_bounds_kinds_and_names(tmp_path):
    """What follows where a key is left out."""
    pools = {
        "a": pool(DEPLOYMENT, min_backends=2),
        "B 1": pool({"command": EACH, "least": 1, "most": 3}),
    }
    config = loaded(tmp_path, pools).config
    first, second = config.pools["a"], config.pools["B 1"]

    assert (bounds_of(first), bounds_of(second)) == ((2, 8), (1, 3))
    assert first.scale is not None
    assert first.scale.kubernetes is not None
    assert second.scale is not None
    assert second.scale.command is not None
    assert kind_of(first.scale.kubernetes) == ("apps/v1", "deployments")
    assert prefix_of("B 1", second.scale.command) == "cuvee-b-1"


def test_a_change_of_where_wishes_go_is_a_change(tmp_path):
    """It needs no restart, and the backends stay."""
    before = loaded(tmp_path, {"a": pool(DEPLOYMENT), "b": pool({"prometheus": True})})
    wanted = {"a": pool({"kubernetes": {"name": "other"}}), "b": pool(None)}
    step = change(before, loaded(tmp_path, wanted))

    assert step.keys == ("pools.a.scale.kubernetes.name", "pools.b.scale")
    assert (step.restart, step.urls) == ((), {})


ROUTE = {"http_route": "llm", "refs": {"a": "vllm-a", "b": "vllm-b"}}


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        (ROUTE | {"http_route": "a/b"}, "weights[0].http_route: this is no name"),
        (ROUTE | {"refs": {}}, "weights[0].refs: needs at least one entry"),
        (ROUTE | {"refs": {"aa": "x"}}, "weights[0].refs.aa: there is no such pool"),
        (ROUTE | {"refs": {"a": "x", "b": "x"}}, "weights[0].refs: one entry stands for two"),
        (ROUTE | {"refs": {"a": "x", "c": "y"}}, "weights[0].refs: a serves m and c n: weights"),
        (ROUTE | {"total": 0}, "weights[0].total: must be between 1 and 1000000"),
        (ROUTE | {"ca_file": "key"}, "weights[0].ca_file: needs `api_server`"),
    ],
    ids=str,
)
def test_weights_that_cannot_be_written_are_told(tmp_path, section, problem):
    """With the section's number."""
    pools = {"a": pool(None), "b": pool(None), "c": pool(None, model="n")}
    models = MODELS | {"n": MODELS["m"]}
    assert loaded(tmp_path, pools, models=models, weights=[ROUTE]).config.weights[0].total == 1000

    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, pools, models=models, weights=[section])

    assert problem in caught.value.problems[0]


def test_two_sections_do_not_write_one_weight(tmp_path):
    """They would take turns."""
    twice = [ROUTE, ROUTE | {"refs": {"b": "vllm-a"}}]
    with pytest.raises(ConfigError, match=r"weights\[1\].refs: vllm-a is in weights\[0\] too"):
        loaded(tmp_path, {"a": pool(None), "b": pool(None)}, weights=twice)
