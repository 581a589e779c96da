"""The section of a pool that says where its backends are found while the gateway serves: keys,
types, domains, defaults and meanings.

As in `schema`, the text below each key is its documentation.
"""

from contextlib import suppress
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from gateway.config.domains import LARGEST, HostName
from gateway.config.kubernetes_schema import KubernetesSection

DNS_PORT = 53

RemotePort = Annotated[int, Meta(ge=1, le=65535, description="between 1 and 65535")]
Interval = Annotated[float, Meta(ge=1.0, le=LARGEST, description="at least 1")]


class DnsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name in DNS, of which each address is one backend. It is asked for again when its records
    may be kept no longer (their TTL), at the latest after `interval_s`.
    """

    name: HostName
    """The name, completed by the search domains of `/etc/resolv.conf`."""
    record: Literal["a", "srv"] = "a"
    """`a`: its addresses, of IPv4 and IPv6, all with `port`. `srv`: the addresses of the targets of
    a service, each with its own port; of several priorities those of the first only (RFC 2782).
    """
    port: RemotePort | None = None
    """The port of the engines; required with `a`."""
    scheme: Literal["http", "https"] = "http"
    """How the engines are spoken to. With `https` their certificates must be for the pool's
    `tls_server_name`, by default for `name`.
    """
    interval_s: Interval = 10.0
    """Longest time between two looks."""
    server: str | None = None
    """Name server as `ADDRESS` or `ADDRESS:PORT`, in place of those of `/etc/resolv.conf`."""


class DiscoverSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where backends of the pool are found while the gateway serves, beside its `backends`: they
    come and go without a reload ([discovery](discovery.md)). One of these keys.
    """

    file: str | None = None
    """JSON or YAML file, relative to this file, with a list of base URLs, or, for several pools,
    with such lists by the pools' names. It is looked at each second.
    """
    dns: DnsSection | None = None
    """A name in DNS."""
    kubernetes: KubernetesSection | None = None
    """Pods or endpoints of a Kubernetes cluster."""


def nameserver(text: str) -> tuple[str, int]:
    """Address and port of `DnsSection.server`. Raises ValueError."""
    with suppress(ValueError):
        return str(ip_address(text)), DNS_PORT
    parts = urlsplit(f"//{text}")
    return str(ip_address(parts.hostname or "")), parts.port or DNS_PORT
