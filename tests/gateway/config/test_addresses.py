"""Where URLs of backends lead, and what is there twice."""

from pathlib import Path

import pytest

from gateway.config.addresses import address, check_addresses
from gateway.config.findings import Findings
from gateway.config.pool_schema import PoolSection
from gateway.config.schema import GatewaySection
from planner.document import Document


def found(pools, **gateway):
    """Findings for pools given as (model, URLs), by name."""
    findings = Findings(Path("f"), Document(None, {}))
    sections = {
        name: PoolSection(model=model, profile="p", backends=tuple(urls))
        for name, (model, urls) in pools.items()
    }
    check_addresses(sections, GatewaySection(**{"port": 0, "admin_port": 0} | gateway), findings)
    return findings


@pytest.mark.parametrize(
    "other",
    [
        "http://localhost:80", "http://LOCALHOST", "http://127.0.0.1:80/", "http://[::1]",
        "http://[0:0:0:0:0:0:0:1]:80", "http://localhost.", "http://0.0.0.0", "https://localhost:80",
    ],
)  # fmt: skip
def test_one_backend_has_one_address(other):
    """However its URL is spelled."""
    assert address(other) == address("http://127.0.0.1")


@pytest.mark.parametrize(
    "other", ["http://127.0.0.1:81", "http://10.0.0.1", "http://127.0.0.1/a", "https://127.0.0.1"]
)
def test_another_host_port_or_path_is_another_backend(other):
    """A balancer may tell engines apart by the path."""
    assert address(other) != address("http://127.0.0.1")


def test_a_backend_that_is_listed_twice_is_refused():
    """In one pool and in two of one model: it would count twice in every plan."""
    urls = {"a": ("m", ["http://x:1", "http://X:1/"]), "b": ("m", ["http://x:1"])}

    assert found(urls).problems == (
        "f: pools.a.backends[1]: http://X:1/ is the backend http://x:1 of pools.a.backends[0]: "
        "list it once",
        "f: pools.b.backends[0]: http://x:1 is the backend http://x:1 of pools.a.backends[0]: "
        "list it once",
    )


def test_a_backend_of_two_models_is_warned_of():
    """Its load is counted apart under each; names of one model belong to one pool."""
    findings = found({"a": ("m", ["http://x:1"]), "b": ("n", ["http://x:1"])})

    assert not findings.problems
    assert findings.warnings[0].startswith("f: pools.b.backends[0]: http://x:1 is also pools.a")
    assert "aliases" in findings.warnings[0]


@pytest.mark.parametrize(
    ("url", "gateway", "key"),
    [
        ("http://localhost:8000", {"port": 8000}, "gateway.port is 8000"),
        ("http://127.0.0.1:8000", {"port": 8000, "host": "::"}, "gateway.port is 8000"),
        ("http://10.0.0.5:8000", {"port": 8000, "host": "10.0.0.5"}, "gateway.port is 8000"),
        ("http://[::1]:9", {"admin_port": 9}, "gateway.admin_port is 9"),
        ("http://localhost:8000", {"port": 8000, "host": "10.0.0.5"}, None),
        ("http://10.0.0.5:8000", {"port": 8000}, None),
        ("http://localhost:8000", {"port": 8001}, None),
    ],
)
def test_the_gateway_is_not_its_own_backend(url, gateway, key):
    """Requests would go round."""
    problems = found({"a": ("m", [url])}, **gateway).problems

    assert problems == (
        () if key is None else (f"f: pools.a.backends[0]: {url} is this gateway itself: {key}",)
    )


@pytest.mark.parametrize(
    ("gateway", "clash"),
    [
        ({"port": 9, "admin_port": 9}, True),
        ({"port": 9, "admin_port": 9, "host": "127.0.0.1", "admin_host": "localhost"}, True),
        ({"port": 9, "admin_port": 9, "host": "10.0.0.5"}, False),
        ({"port": 0, "admin_port": 0}, False),
        ({"port": 9, "admin_port": 8}, False),
    ],
)
def test_the_two_ports_are_two(gateway, clash):
    """On one address; 0 takes any free one."""
    problems = found({}, **gateway).problems

    assert problems == (
        ("f: gateway.admin_port: 9 is gateway.port already: the admin port must be another one",)
        if clash
        else ()
    )
