"""The number of replicas is set where it is, with the least rights, and not against others."""

import asyncio
import logging

import msgspec
import pytest

from gateway.actuation.actuator import ActuationError
from gateway.actuation.kubernetes_scale import HOLD_S, KubernetesScale
from gateway.config.scale_schema import KubernetesScaleSection
from tests.gateway.actuation.kube_double import kube_store

PATH = "/apis/apps/v1/namespaces/models/deployments/vllm"
PODS = "/api/v1/namespaces/models/pods"
COST = "controller.kubernetes.io/pod-deletion-cost"


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def store():
    async with kube_store() as one:
        one.put(PATH, {"spec": {"replicas": 3}})
        yield one


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def scale(store, tmp_path, clock):
    """Makes actuators of these keys."""
    (tmp_path / "token").write_text("first")

    def make(give_up_s: float = 20.0, **keys) -> KubernetesScale:
        known = {"name": "vllm", "namespace": "models"}
        known |= {"api_server": store.url, "token_file": "token"}
        section = msgspec.convert(known | keys, KubernetesScaleSection)
        return KubernetesScale(
            section, tmp_path, give_up_s=give_up_s, first_pause_s=0.001, clock_s=clock
        )

    return make


async def refused(actuator, order) -> ActuationError:
    """Why a wish was refused."""
    with pytest.raises(ActuationError) as caught:
        await actuator.apply(order)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_the_number_of_replicas_is_set(scale, store, order):
    """By a patch of the subresource that names the version it was made for, and of nothing else."""
    actuator = scale()
    version = store.objects[PATH]["metadata"]["resourceVersion"]
    await actuator.apply(order(5))

    assert actuator.name == "deployment models/vllm"
    assert store.objects[PATH]["spec"] == {"replicas": 5}
    assert store.requests == [("get", f"{PATH}/scale"), ("patch", f"{PATH}/scale")]
    change = {"metadata": {"resourceVersion": version}, "spec": {"replicas": 5}}
    assert store.patches == [(f"{PATH}/scale", change)]

    await actuator.apply(order(5, key="k-2"))
    await actuator.apply(order(0, key="k-3"))
    await actuator.apply(order(0, key="k-4"))
    await actuator.apply(order(2, key="k-5"))
    assert [change["spec"]["replicas"] for _, change in store.patches] == [5, 0, 2]


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"kind": "StatefulSet"}, "/apis/apps/v1/namespaces/models/statefulsets/vllm"),
        (
            {"kind": "LeaderWorkerSet"},
            "/apis/leaderworkerset.x-k8s.io/v1/namespaces/models/leaderworkersets/vllm",
        ),
        (
            {"kind": "Fleet", "api_version": "x.io/v1beta2", "plural": "fleets"},
            "/apis/x.io/v1beta2/namespaces/models/fleets/vllm",
        ),
        (
            {
                "kind": "ReplicationController",
                "api_version": "v1",
                "plural": "replicationcontrollers",
            },
            "/api/v1/namespaces/models/replicationcontrollers/vllm",
        ),
    ],
    ids=str,
)
async def test_any_kind_with_a_scale(scale, store, order, keys, path):
    """By group, version and plural."""
    store.put(path, {"spec": {"replicas": 1}})
    await scale(**keys).apply(order(2))

    assert store.objects[path]["spec"]["replicas"] == 2


async def test_a_conflict_is_tried_again(scale, store, order):
    """With what it is by then: labels of others change, and the wish stays."""
    changes = [1, 2]

    def meddle() -> None:
        if changes:
            item = store.objects[PATH] | {"label": changes.pop()}
            store.put(PATH, item)

    store.meddle = meddle
    await scale().apply(order(5))

    assert store.objects[PATH]["spec"]["replicas"] == 5
    assert store.objects[PATH]["label"] == 1
    assert len(store.patches) == 3


async def test_conflicts_without_end_are_told(scale, store, order):
    """After a while."""
    store.meddle = lambda: store.put(PATH, store.objects[PATH])
    error = await refused(scale(give_up_s=0.1), order())

    assert "scale of Deployment models/vllm is changed by others all the time" in str(error)
    assert not error.final


async def test_a_token_that_was_replaced(scale, store, order, tmp_path):
    """Its file is read again at each try."""
    store.tokens = {"second"}
    wish = asyncio.ensure_future(scale().apply(order()))
    async with asyncio.timeout(20):
        while len(store.requests) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    (tmp_path / "token").write_text("second")
    await wish

    assert store.objects[PATH]["spec"]["replicas"] == 5
    store.tokens = set()
    error = await refused(scale(give_up_s=0.05), order(6))
    assert "does not accept the token (401)" in str(error)
    assert not error.final


@pytest.mark.parametrize("verb", ["get", "patch"])
async def test_a_missing_right_is_named(scale, store, order, verb):
    """With the rule that a Role must have, in the form of one; another try is of no use."""
    store.denied = {(verb, "/scale")}
    error = await refused(scale(), order())

    assert error.final
    assert str(error) == (
        "may not change scale of Deployment models/vllm: a Role in models must have "
        "{apiGroups: [apps], resources: [deployments/scale], verbs: [get, patch]}; "
        f'forbidden: User "system:serviceaccount:default:gateway" cannot {verb} resource'
    )
    assert len(store.requests) <= 2


async def test_what_is_not_there_is_named(scale, store, order):
    """The object, or the subresource."""
    error = await refused(scale(name="other"), order())

    assert "scale of Deployment models/other does not exist, or cannot be" in str(error)
    assert error.final
    store.put(f"{PATH}/scale", {"kind": "Deployment", "spec": {}})
    assert "Deployment models/vllm has no scale: Deployment" in str(await refused(scale(), order()))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_in_trouble_is_asked_again(scale, store, order, status):
    """Until it is well, or for a while."""
    store.failing = [status] * 3
    await scale().apply(order())
    assert store.objects[PATH]["spec"]["replicas"] == 5

    store.failing = [status] * 10_000
    error = await refused(scale(give_up_s=0.1), order(6))
    assert f"scale of Deployment models/vllm: {status} not now" in str(error)
    assert not error.final


async def test_nobody_there_is_told(scale, order):
    """With the URL."""
    error = await refused(scale(api_server="http://127.0.0.1:1", give_up_s=0.05), order())

    assert str(error).startswith("http://127.0.0.1:1: ")


async def test_what_the_api_does_not_keep_is_told(scale, store, order):
    """As where an admission webhook writes another number."""

    def put(path: str, count: int) -> None:
        item = store.objects[path] | {"spec": {"replicas": min(count, 4)}}
        store.put(path, item)

    store.replicas = put
    error = await refused(scale(), order(5))

    assert "was set to 5, and the API answers 4: something changes what is written" in str(error)


async def test_others_who_scale_it_are_told_once_and_left_to_it(scale, store, order, clock, caplog):
    """A person may do it once; what always turns it back has it, for a while."""
    actuator = scale()
    await actuator.apply(order(5))
    store.replicas(PATH, 1)
    await actuator.apply(order(5, key="k-2"))
    assert store.objects[PATH]["spec"]["replicas"] == 5
    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 1
    assert "is scaled by others: it was set to 5 and has 1" in lines[0]
    await actuator.apply(order(5, key="k-3"))  # it stayed, so that counting begins anew

    for key in ("k-4", "k-5"):
        store.replicas(PATH, 1)
        await actuator.apply(order(5, key=key))
    store.replicas(PATH, 1)
    error = await refused(actuator, order(5, key="k-6"))
    assert "3 times in a row; it is left to them for 10 min" in str(error)
    assert "left to them for now" in str(await refused(actuator, order(5, key="k-7")))
    assert store.objects[PATH]["spec"]["replicas"] == 1
    clock.now_s += HOLD_S
    await actuator.apply(order(5, key="k-8"))
    assert store.objects[PATH]["spec"]["replicas"] == 5
    assert len(caplog.records) == 3  # one for each time that it began


async def test_pods_that_leave_are_told_to_go_first(scale, store, order):
    """Only where it shrinks; those that stay after all are told so, those that have gone are not
    asked for."""
    for number in (1, 2, 3):
        store.put(f"{PODS}/vllm-{number}", {"status": {"podIP": f"10.0.0.{number}"}})

    def costs() -> list[str | None]:
        return [
            item["metadata"].get("annotations", {}).get(COST)
            for path, item in sorted(store.objects.items())
            if path.startswith(PODS)
        ]

    actuator = scale(mark_leaving=True)
    one, two = "http://10.0.0.1:8000", "http://10.0.0.2:8000"
    await actuator.apply(order(4, 3, leaving=(one,)))
    assert costs() == [None, None, None]
    await actuator.apply(order(1, 3, key="k-2", leaving=(one, two)))
    assert costs() == ["-100", "-100", None]
    await actuator.apply(order(1, 3, key="k-3", leaving=(one, two)))
    await actuator.apply(order(2, 3, key="k-4", leaving=(two,)))
    assert costs() == [None, "-100", None]
    del store.objects[f"{PODS}/vllm-2"]
    await actuator.apply(order(2, 2, key="k-5"))
    assert costs() == [None, None]
    assert len([path for path, _ in store.patches if path.startswith(PODS)]) == 3


async def test_pods_that_cannot_be_marked_stop_nothing(scale, store, order, caplog):
    """The number is set all the same; the log says once which right is missing."""
    store.denied = {("get", "/pods")}
    actuator = scale(mark_leaving=True)
    await actuator.apply(order(2, 3, leaving=("http://10.0.0.1:8000",)))
    await actuator.apply(order(1, 2, key="k-2", leaving=("http://10.0.0.1:8000",)))

    assert store.objects[PATH]["spec"]["replicas"] == 1
    lines = [record.message for record in caplog.records]
    assert len(lines) == 1
    assert '{apiGroups: [""], resources: [pods], verbs: [list, patch]}' in lines[0]


async def test_one_wish_at_a_time(scale, store, order):
    """The last one stands."""
    actuator = scale()
    await asyncio.gather(*(actuator.apply(order(n, key=f"k-{n}")) for n in (4, 5, 6, 7)))
    await actuator.aclose()

    assert [change["spec"]["replicas"] for _, change in store.patches] == [4, 5, 6, 7]
