"""URLs of backends and the gateway's own ports: what cannot be reached, and what is there twice.

Reads what is written; asks no name server and no backend.
"""

import socket
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.config.findings import Findings
from gateway.config.pool_schema import PoolSection
from gateway.config.schema import GatewaySection
from planner.document import shown, under

LOOPBACK = "127.0.0.1"
HERE = {"localhost", "::1", "0.0.0.0", "::", ""}  # as a destination each means this machine
ANYWHERE = {"", "0.0.0.0", "::"}  # as an address to listen on: all of this machine
PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Where a URL leads, the same however it is spelled."""

    host: str
    port: int
    path: str


class Listed(NamedTuple):
    """One URL of the file. key: `pools.a.backends[0]`."""

    key: str
    pool: str
    model: str
    url: str
    address: Address


def check_addresses(
    pools: Mapping[str, PoolSection], gateway: GatewaySection, findings: Findings
) -> None:
    """Note what is wrong with the backends' URLs and the gateway's ports."""
    listed: list[Listed] = []
    for name, section in pools.items():
        for index, url in enumerate(section.backends):
            key = f"{under('pools', name)}.backends[{index}]"
            if fault := url_fault(url):
                findings.problem(key, fault)
            else:
                listed.append(Listed(key, name, section.model, url, address(url)))
    _check_twice(listed, findings)
    _check_ports(listed, gateway, findings)


def url_fault(url: str) -> str | None:
    """Why a base URL cannot be used, or what it has that would not be sent or be sent twice."""
    if not url.startswith(("http://", "https://")):
        return "must start with http:// or https://"
    if not _reachable(url):
        return f"this is no URL of a host: {shown(url)}"
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        return "must not have a user or a password: neither is sent"
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        return "must not have a query or a fragment: neither is sent"
    if parts.path.rstrip("/").endswith("/v1"):
        return "must not end in /v1: the path of each request has it already"
    return None


def address(url: str) -> Address:
    """The address of a URL without faults."""
    parts = urlsplit(url)
    port = parts.port or PORTS[parts.scheme]
    return Address(canonical_host(parts.hostname or ""), port, parts.path.rstrip("/"))


def own_ends(gateway: GatewaySection) -> frozenset[tuple[str, int]]:
    """Hosts and ports, in one spelling, at which this machine reaches the gateway itself; without
    ports that are not fixed."""
    ends = ((gateway.host, gateway.port), (gateway.admin_host, gateway.admin_port))
    return frozenset((host, port) for name, port in ends if port for host in _listens(name))


def canonical_host(host: str) -> str:
    """A host in one spelling; all names of this machine's loopback are one."""
    host = host.casefold().rstrip(".").strip("[]")
    with suppress(ValueError):  # a name
        host = str(ip_address(host))
    return LOOPBACK if host in HERE else host


def _reachable(url: str) -> bool:
    """Whether a URL has a host and a valid port, and can be written into a request's head."""
    try:
        url.encode("latin-1")
        if any(not character.isprintable() or character.isspace() for character in url):
            return False
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check_twice(listed: list[Listed], findings: Findings) -> None:
    """One engine that is listed twice would be planned as two."""
    first: dict[Address, Listed] = {}
    for one in listed:
        other = first.setdefault(one.address, one)
        if other is one:
            continue
        if one.pool != other.pool and one.model != other.model:
            findings.warning(
                one.key,
                f"{one.url} is also {other.key}, for another model: its load is that of both, but "
                "plans count with two engines; names of one model belong to one pool: give the "
                "model `aliases` or `adapters`",
            )
            continue
        text = f"{one.url} is the backend {other.url} of {other.key}: list it once"
        findings.problem(one.key, text)


def _check_ports(listed: list[Listed], gateway: GatewaySection, findings: Findings) -> None:
    data = _listens(gateway.host) if gateway.port else set()
    admin = _listens(gateway.admin_host) if gateway.admin_port else set()
    if gateway.port == gateway.admin_port and data & admin:
        text = f"{gateway.port} is gateway.port already: the admin port must be another one"
        findings.problem("gateway.admin_port", text)
    for one in listed:
        for key, port, hosts in (
            ("gateway.port", gateway.port, data),
            ("gateway.admin_port", gateway.admin_port, admin),
        ):
            if one.address.port == port and one.address.host in hosts:
                text = f"{one.url} is this gateway itself: {key} is {port}"
                findings.problem(one.key, text)


def _listens(host: str) -> set[str]:
    """The hosts, in one spelling, under which this machine reaches what listens on an address."""
    own = {LOOPBACK, canonical_host(socket.gethostname())}
    return own if host in ANYWHERE else {canonical_host(host)}
