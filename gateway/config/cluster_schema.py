"""The section of gateways that serve one fleet together: keys, types, domains and meanings.

As in `schema`, the text below each key is its documentation.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

RedisUrl = Annotated[
    str,
    Meta(pattern=r"^rediss?://[^\s/]+(/\d*)?\Z", description="a URL: redis://HOST:PORT/DATABASE"),
]
ClusterName = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z", description="letters, digits, `_`, `.` and `-`"),
]
ViewInterval = Annotated[float, Meta(ge=0.02, le=1.0, description="0.02 to 1")]
ReportInterval = Annotated[float, Meta(ge=0.2, le=10.0, description="0.2 to 10")]
LeaseTime = Annotated[float, Meta(ge=0.5, le=60.0, description="0.5 to 60")]
ReplyTime = Annotated[float, Meta(ge=0.05, le=10.0, description="0.05 to 10")]


class ClusterSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several gateways that serve one fleet, by a Redis or Valkey that they share: one plans for
    all, and each knows what the others have in flight ([several gateways](cluster.md)). Needs the
    extra `redis`.
    """

    redis: RedisUrl
    """Where it is: `redis://HOST:PORT/DATABASE`, or `rediss://…` by TLS. User and password may be
    in it, from the environment: `redis://cuvee:${REDIS_PASSWORD}@redis:6379/0`.
    """
    password_file: str | None = None
    """File with the password, relative to this file; read at each connection."""
    ca_file: str | None = None
    """Certificates, in PEM, of the authorities that a `rediss` server is trusted by, relative to
    this file. Default: those that the system trusts.
    """
    name: ClusterName = "cuvee"
    """Name of the cluster: gateways of one name serve together, and those of others are apart."""
    zone: str | None = None
    """Where this gateway is, as `zone` of pools says it: of the plan's pools, those of its own zone
    are preferred. Default: nowhere, none is preferred.
    """
    view_s: ViewInterval = 0.1
    """Seconds between two exchanges of what is in flight."""
    report_s: ReportInterval = 1.0
    """Seconds between two reports of what happened, which the plan is made from."""
    lease_s: LeaseTime = 3.0
    """Another gateway plans when the one that did was not heard of for so long."""
    timeout_s: ReplyTime = 0.5
    """An answer that takes longer counts as none: the gateway goes on with what it knows."""
