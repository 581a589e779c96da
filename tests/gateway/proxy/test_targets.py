"""What all requests to one endpoint of one backend have in common."""

import pytest

from gateway.config.schema import GatewaySection
from gateway.config.upstream import TlsPaths, Upstream
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.targets import Targets
from gateway.routing.backend import Backend
from gateway.routing.endpoints import CHAT

SETTINGS = GatewaySection(connect_timeout_s=2.0, first_byte_timeout_s=10.0, unary_timeout_s=20.0)


@pytest.fixture
async def targets():
    """Of a pool `a` with settings of its own; other pools have none."""
    found = Targets(ConnectionPools(connect_timeout_s=SETTINGS.connect_timeout_s))
    own = Upstream(
        headers=(("X-Tenant", "t"), ("authorization", "Bearer k")), forwards=True,
        connect_timeout_s=1.0, first_byte_timeout_s=300.0, unary_timeout_s=900.0,
        tls=TlsPaths(ca="/ca.pem", print="1"),
    )  # fmt: skip
    found.configure({"a": own}, SETTINGS)
    return found


def backend(pool):
    return Backend(name=f"{pool}-0", pool=pool, url=f"http://{pool}:1/base")


async def test_each_pool_is_spoken_to_in_its_own_way(targets):
    """Headers, time limits and certificates are the pool's."""
    own, other = (targets.target(backend(pool), CHAT) for pool in "ab")

    assert own.start == (
        b"POST /base/v1/chat/completions HTTP/1.1\r\nhost: a:1\r\n"
        b"x-tenant: t\r\nauthorization: Bearer k\r\n"
    )
    assert (own.first_byte_s, own.unary_s, own.forwards) == (300.0, 900.0, True)
    assert own.connections.connect_timeout_s == 1.0
    assert own.connections.tls.ca == "/ca.pem"
    assert other.start == b"POST /base/v1/chat/completions HTTP/1.1\r\nhost: b:1\r\n"
    assert (other.first_byte_s, other.unary_s, other.forwards) == (10.0, 20.0, False)
    assert other.connections.connect_timeout_s == 2.0
    assert other.connections.tls is None


async def test_a_key_is_shown_nowhere(targets):
    """Logs show objects."""
    assert "Bearer" not in repr(targets.target(backend("a"), CHAT)) + repr(targets)


async def test_new_settings_count_from_the_next_request(targets):
    """On the connections that there are."""
    before = targets.target(backend("a"), CHAT)
    targets.configure({"a": Upstream(headers=(("authorization", "Bearer new"),))}, SETTINGS)
    after = targets.target(backend("a"), CHAT)

    assert after.start.endswith(b"authorization: Bearer new\r\n")
    assert after.connections is before.connections
    assert after.connections.tls is None
