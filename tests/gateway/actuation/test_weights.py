"""An HTTPRoute follows the plan: with few rights, not too often, and never against others."""

import copy
import logging
from typing import Any

import msgspec
import pytest
import yaml

from gateway.actuation.http_route import whole
from gateway.actuation.plan_shares import capacity_shares, request_shares
from gateway.actuation.weights import RouteWeights, RouteWriter
from gateway.config.load import Loaded, load
from gateway.config.weights_schema import WeightsSection
from gateway.telemetry.loops import Loops
from tests.gateway.actuation.kube_double import kube_store
from tests.gateway.discovery.kubernetes.conftest import eventually

PATH = "/apis/gateway.networking.k8s.io/v1/namespaces/models/httproutes/llm"
LOOP = "weights models/llm a100+h100"
NOW_S = 1_800_000_000.0
POOLS = {"group": "inference.networking.k8s.io", "kind": "InferencePool"}
ROUTE: dict[str, Any] = {
    "spec": {
        "parentRefs": [{"name": "gateway"}],
        "rules": [
            {
                "matches": [{"headers": [{"name": "model", "value": "llama"}]}],
                "backendRefs": [
                    {"name": "vllm-a100", "port": 8000},
                    {"name": "vllm-h100", "weight": 1} | POOLS,
                ],
            },
            {"backendRefs": [{"name": "other", "weight": 3}]},
        ],
    }
}


@pytest.fixture
async def store():
    async with kube_store() as one:
        one.put(PATH, ROUTE)
        yield one


@pytest.fixture
async def writer(store, tmp_path):
    """Makes writers of these keys; `writer.loops` tells how they are."""
    (tmp_path / "token").write_text("first")
    made = []

    class Maker:
        loops = Loops()

        def __call__(self, **keys) -> RouteWriter:
            known = {"http_route": "llm", "namespace": "models", "interval_s": 0.001}
            known |= {"refs": {"a100": "vllm-a100", "h100": "vllm-h100"}}
            known |= {"api_server": store.url, "token_file": "token"}
            section = msgspec.convert(known | keys, WeightsSection)
            one = RouteWriter(section, tmp_path, self.loops, retry_s=0.002, now_s=lambda: NOW_S)
            made.append(one)
            return one

        @property
        def error(self) -> str | None:
            record = self.loops.records.get(LOOP)
            return None if record is None else record.error

    yield Maker()
    for one in made:
        await one.aclose()


def weights(store, path: str = PATH) -> list[int | None]:
    """All weights of a route."""
    rules = store.objects[path]["spec"]["rules"]
    return [ref.get("weight") for rule in rules for ref in rule["backendRefs"]]


async def test_the_plan_becomes_weights(store, writer, caplog):
    """Nothing else of the route changes; a plan that changes nothing writes nothing."""
    caplog.set_level(logging.INFO)
    one = writer()
    one.wish({"a100": 0.3, "h100": 0.7, "of-another-model": 1.0})
    await eventually(lambda: weights(store) == [300, 700, 3])

    expected = copy.deepcopy(ROUTE["spec"])
    for ref, weight in zip(expected["rules"][0]["backendRefs"], (300, 700), strict=True):
        ref["weight"] = weight
    assert store.objects[PATH]["spec"] == expected
    await eventually(lambda: LOOP in writer.loops.records)
    assert writer.loops.records[LOOP].good_at_s == NOW_S
    lines = [record.message for record in caplog.records if record.name == "cuvee.actuation"]
    assert lines == ["HTTPRoute models/llm: weights vllm-a100 30.0%, vllm-h100 70.0%"]

    reads = len(store.requests)
    one.wish({"a100": 0.3, "h100": 0.7})
    await eventually(lambda: len(store.requests) > reads)
    one.wish({"h100": 1.0})  # a pool that the plan does not use gets nothing
    await eventually(lambda: weights(store) == [0, 1000, 3])
    assert len(store.patches) == 2


async def test_a_plan_without_the_pools_changes_nothing(store, writer):
    """As one that has nothing of this model."""
    one = writer()
    one.wish({"other": 1.0})
    one.wish({"a100": 0.0, "h100": 0.0})
    one.wish({"a100": 1.0})
    await eventually(lambda: weights(store) == [1000, 0, 3])

    assert len(store.patches) == 1


async def test_changes_are_not_too_frequent(store, writer):
    """Of all plans between two changes only the newest is written."""
    one = writer(interval_s=0.5)
    for share in (0.1, 0.2, 0.3, 0.4, 0.5):
        one.wish({"a100": share, "h100": 1 - share})
        await eventually(lambda: store.patches)
    await eventually(lambda: weights(store) == [500, 500, 3])

    assert len(store.patches) == 2


async def test_a_route_that_others_change_meanwhile_is_read_again(store, writer):
    """Their change stays."""
    left = [1, 2]

    def meddle() -> None:
        if left:
            item = copy.deepcopy(store.objects[PATH])
            item["spec"]["rules"][1]["backendRefs"][0]["weight"] = 10 + left.pop()
            store.put(PATH, item)

    store.meddle = meddle
    writer().wish({"a100": 0.5, "h100": 0.5})
    await eventually(lambda: weights(store) == [500, 500, 11])
    assert writer.loops.records[LOOP].failures == 2
    await eventually(lambda: writer.error is None)


async def test_rules_that_move_meanwhile_are_never_mixed_up(store, writer):
    """A weight is only written at an entry that has its name, even if versions were ignored."""
    left = [1]

    def meddle() -> None:
        if left:
            left.pop()
            item = store.objects[PATH]
            item["spec"]["rules"].reverse()  # and the version stays

    store.meddle = meddle
    writer().wish({"a100": 0.5, "h100": 0.5})
    await eventually(lambda: weights(store) == [3, 500, 500])


async def test_what_cannot_be_written_is_named_and_tried_again(store, writer, caplog):
    """Rights, a route that is not there, an entry that is not there, a server in trouble; with one
    line each in the log."""
    store.denied = {("patch", "/llm")}
    one = writer()
    one.wish({"a100": 0.5, "h100": 0.5})
    await eventually(lambda: writer.error is not None)
    assert "may not change HTTPRoute models/llm: a Role in models must have " in writer.error
    assert "{apiGroups: [gateway.networking.k8s.io], resources: [httproutes]" in writer.error
    failures = writer.loops.records[LOOP].failures
    await eventually(lambda: writer.loops.records[LOOP].failures > failures + 1)

    store.denied = set()
    taken = store.objects.pop(PATH)
    await eventually(lambda: "does not exist" in (writer.error or ""))
    store.put(PATH, {"spec": {"rules": [{"backendRefs": [{"name": "vllm-a100"}]}]}})
    await eventually(lambda: "no rule has the backendRef vllm-h100" in (writer.error or ""))
    store.failing = [503] * 3
    await eventually(lambda: "503 not now" in (writer.error or ""))
    store.objects[PATH] = taken
    await eventually(lambda: weights(store) == [500, 500, 3])
    await eventually(lambda: writer.error is None)

    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) in (4, 5)  # the second fault may come twice, around the third one
    assert all(line.startswith("weights stay as they are: ") for line in lines)


async def test_who_else_gets_requests_is_told_once(store, writer, caplog):
    """Entries of the same rule that are not ours keep their weights."""
    item = copy.deepcopy(ROUTE)
    item["spec"]["rules"][0]["backendRefs"].append({"name": "canary", "weight": 50})
    store.put(PATH, item)
    one = writer()
    for share in (0.5, 0.4):
        one.wish({"a100": share, "h100": 1 - share})
        expected = [round(1000 * share), round(1000 * (1 - share)), 50, 3]
        await eventually(lambda expected=expected: weights(store) == expected)

    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert lines == [
        "HTTPRoute models/llm: other backendRefs keep their weights, beside 1000 for the pools: "
        "canary 50"
    ]


@pytest.fixture
def routes(store, tmp_path, plan):
    """Makes configurations with these sections about routes, of the pools of the plan."""
    (tmp_path / "token").write_text("first")
    pool = {"model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0}
    raw = {
        "models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": {name: pool | {"backends": [f"http://{name}:1"]} for name in plan.pools},
    }

    def loaded(**routes: dict[str, Any]) -> Loaded:
        known = {"namespace": "models", "api_server": store.url, "token_file": "token"}
        known |= {"refs": {"a100-80g": "vllm-a100", "h100": "vllm-h100"}}
        sections = [known | {"http_route": name} | keys for name, keys in routes.items()]
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw | {"weights": sections}))
        return load(path)

    return loaded


async def test_all_routes_of_a_configuration_follow(store, routes):
    """Also those of a later one, with the shares that were written last; the others are left."""
    second = PATH.replace("llm", "second")
    store.put(second, ROUTE)
    loops = Loops()
    async with RouteWeights(routes(llm={}), loops) as followed:
        await followed.write({"a100-80g": 0.2, "h100": 0.8})
        await eventually(lambda: weights(store) == [200, 800, 3])
        await followed.follow(routes(second={}))
        await eventually(lambda: weights(store, second) == [200, 800, 3])
        await eventually(lambda: set(loops.records) == {"weights models/second a100-80g+h100"})

    assert loops.records == {}
    assert weights(store) == [200, 800, 3]


async def test_each_route_has_the_split_that_it_asks_for(store, routes, mixed):
    """Of the plan's requests, or of what the planned backends can serve."""
    second = PATH.replace("llm", "second")
    refs = {pool: f"vllm-{pool}" for pool in mixed.pools}
    store.put(PATH, one_rule(*refs.values()))
    store.put(second, one_rule(*refs.values()))
    both = routes(llm={"refs": refs}, second={"refs": refs, "split": "capacity"})
    expected = {}
    for path, shares in ((PATH, request_shares(mixed)), (second, capacity_shares(mixed))):
        counts = whole({pool: shares.get(pool, 0.0) for pool in mixed.pools}, 1000)
        expected[path] = list(counts.values())
    async with RouteWeights(both, Loops()) as followed:
        followed.planned(mixed)
        for path, found in expected.items():
            await eventually(lambda path=path, found=found: weights(store, path) == found)

    assert expected[PATH] != expected[second]


def one_rule(*names: str) -> dict[str, Any]:
    """A route with one rule."""
    return {"spec": {"rules": [{"backendRefs": [{"name": name} for name in names]}]}}
