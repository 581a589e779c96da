"""What `/readyz` and `/health` answer."""

from gateway.config.schema import GatewaySection
from gateway.config.serving import ServedModel, ServingConfig
from gateway.routing.fleet import Fleet
from gateway.workers.local import readiness

CONFIG = ServingConfig(
    gateway=GatewaySection(),
    models=tuple(
        ServedModel(name=name, max_model_len=8192, bytes_per_token=4.0, pools=(pool,))
        for name, pool in (("large", "h100"), ("small", "l4"))
    ),
    upstreams={},
)


def ready(*down, leaving=False):
    """The readiness of a gateway with these pools down."""
    fleet = Fleet.of({"h100": ["http://a:1"], "l4": ["http://b:1"]})
    for pool in down:
        for backend in fleet.pool(pool):
            backend.probed(False)
    return readiness(CONFIG, fleet, "plan", 0.0, leaving=leaving)


def test_one_model_without_backends_does_not_take_the_others_away():
    """A balancer that got a 503 would send no requests of the other model either."""
    status, body = ready("l4")

    assert status == 200
    assert body["status"] == "ready"
    assert body["unserved"] == ["small"]
    assert body["live"] == {"h100": 1, "l4": 0}


def test_a_gateway_that_can_serve_nothing_is_not_ready():
    """Then no request could be answered here."""
    status, body = ready("h100", "l4")

    assert (status, body["status"]) == (503, "no backend")
    assert body["unserved"] == ["large", "small"]


def test_a_draining_gateway_is_not_ready():
    """However well its backends are."""
    status, body = ready(leaving=True)

    assert (status, body["status"], body["unserved"]) == (503, "draining", [])
