"""`any_of`: which pools it adds to what is planned with, and what it may not say."""

from typing import Any

import pytest
import yaml

from gateway.config.load import load
from gateway.errors import ConfigError
from gateway.planning import Planning
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet


@pytest.fixture
def config(tmp_path):
    """Writes a configuration of one pool with these keys beside its model."""

    def make(any_of: dict[str, Any], **pool):
        (tmp_path / "measured.yaml").write_text(
            "{format: cuvee-profile/1, origin: analytic, gpu: A100-80G, model: Llama-3-8B, "
            "max_num_seqs: 100}"
        )
        entry = {"model": "m", "profile": "llama-3-8b/H100", "backends": [], "any_of": any_of}
        raw = {
            "prices": "aws-2026-07",
            "models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.05}}},
            "pools": {"chat": entry | pool},
        }
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return make


def test_commands_that_plan_choose_among_all(config):
    """Each alternative is a pool: priced by its GPUs, without a bound, without paid backends."""
    loaded = load(config({"gpu": ["A100-80G", "H100"], "tensor_parallel_size": [1, 2]}))

    pools = {pool.name: pool for pool in loaded.to_rent().pools}
    assert list(pools) == ["chat", "chat/A100-80G", "chat/2xA100-80G", "chat/2xH100"]
    assert pools["chat/2xH100"].usd_per_hour == pytest.approx(2 * pools["chat"].usd_per_hour)
    assert {pool.max_backends for pool in pools.values()} == {None}
    assert {pool.model for pool in pools.values()} == {"m"}


def served(loaded):
    """The pools that a gateway plans with, as name and most backends."""
    fleet = Fleet.of({name: pool.backends for name, pool in loaded.config.pools.items()})
    planning = Planning(
        loaded,
        fleet=fleet,
        estimator=Estimator(),
        publish=lambda plan, reason: None,
        on_look=lambda _result, _why: None,
    )
    return [(pool.name, pool.max_backends) for pool in planning.pools]


async def test_the_gateway_serves_without_them(config):
    """It knows no URL of an alternative, so no request may be planned for one."""
    loaded = load(config({"gpu": ["A100-80G"]}, backends=["http://127.0.0.1:9000"]))

    assert [pool.name for pool in loaded.alternatives] == ["chat/A100-80G"]
    assert served(loaded) == [("chat", 1)]


async def test_a_pool_without_backends_has_none_in_a_gateway(config):
    """It has no bound for a plan on paper; where requests are routed it is empty."""
    loaded = load(config({"gpu": ["A100-80G"]}))

    assert [pool.max_backends for pool in loaded.pools] == [None]
    assert served(loaded) == [("chat", 0)]


def test_the_bound_of_the_pool_is_that_of_each_alternative(config):
    """`max_backends` is what the user wants at most; `reserved` are backends that exist."""
    loaded = load(config({"gpu": ["L4", "A100-80G"]}, max_backends=3, reserved=2))

    assert {(p.max_backends, p.reserved) for p in loaded.alternatives} == {(3, 0)}


def test_own_prices_hold_for_the_own_gpu(config):
    """Two H100 cost twice what this pool's one costs, whatever the list says."""
    loaded = load(config({"gpu": ["H100", "L4"], "tensor_parallel_size": [2]}, usd_per_hour=5.0))

    usd = {pool.name: pool.usd_per_hour for pool in loaded.alternatives}
    assert usd == pytest.approx({"chat/2xH100": 10.0, "chat/2xL4": 2 * 0.8048})


def test_a_listed_profile_replaces_the_combination_that_it_is(config):
    """What was measured is known better than what is computed."""
    choices = {"gpu": ["A100-80G"], "max_num_seqs": [50, 100], "profile": ["measured.yaml"]}

    names = [pool.name for pool in load(config(choices)).alternatives]

    assert names == ["chat/measured", "chat/A100-80G-seqs50"]


def test_what_no_plan_can_use_has_a_reason(config):
    """It does not start, has no price, or keeps no promise."""
    gpus = {"gpu": ["T4", "A10G", "RTX-4090"], "dtype": ["fp16", "fp8"]}
    loaded = load(config(gpus))

    reasons = {one.name.removeprefix("chat/"): one.reason for one in loaded.left_out}
    assert "no fp8 units" in reasons["A10G-fp8"]
    assert "does not fit" in reasons["T4-fp16"]
    assert reasons["RTX-4090-fp16"] == "prices has none for RTX-4090"
    assert not {pool.name for pool in loaded.alternatives} & set(reasons)


def test_an_alternative_that_keeps_no_promise_is_left_out(config):
    """With the best that it can do."""
    loaded = load(config({"gpu": ["L4", "A100-80G"]}))

    (left,) = loaded.left_out
    assert left.name == "chat/L4"
    assert "holds no TTFT 2 s and TPOT 50 ms at any size; at best" in left.reason


@pytest.mark.parametrize(
    ("any_of", "pool", "line"),
    [
        ({"gpu": ["H1000"]}, {}, "pools.chat.any_of.gpu[0]: unknown `H1000`; did you mean "),
        ({"gpus": ["H100"]}, {}, "pools.chat.any_of.gpus: unknown key; did you mean gpu?"),
        ({"dtype": ["int4"]}, {}, "pools.chat.any_of.dtype[0]: int4 is none of fp16, bf16, fp8"),
        ({"tensor_parallel_size": [0]}, {}, "pools.chat.any_of.tensor_parallel_size[0]: must be "),
        ({"profile": ["no.yaml"]}, {}, "pools.chat.any_of.profile[0]: "),
        (
            {"profile": ["llama-2-7b/H100"]}, {},
            "pools.chat.any_of.profile[0]: it is of Llama-2-7B, that of chat of Llama-3-8B",
        ),
        (
            {"profile": ["llama-3-8b/L4", "./llama-3-8b/L4"]}, {},
            "pools.chat.any_of.profile[1]: ",
        ),
        (
            {"profile": ["measured.yaml", "./measured.yaml"]}, {},
            "pools.chat.any_of: two alternatives have the name chat/measured",
        ),
        (
            {"max_num_seqs": list(range(1, 30)), "max_model_len": list(range(500, 530))}, {},
            "pools.chat.any_of: 870 combinations, at most 500",
        ),
        (
            {"gpu": ["L4"]}, {"spot": {"preemptions_per_hour": 0.1, "restart_s": 60}},
            "pools.chat.any_of: is not for spot pools",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_lines_with_their_keys(config, any_of, pool, line):
    """A value that can mean nothing is told where it stands."""
    with pytest.raises(ConfigError) as refused:
        load(config(any_of, **pool))

    assert any(line in problem for problem in refused.value.problems), refused.value.problems
