"""The section about routers of others that follow the plan: keys, types, domains and meanings.

As in `schema`, the text below each key is its documentation.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.config.domains import Positive

# https://gateway-api.sigs.k8s.io/reference/spec/#backendref
MOST_WEIGHT = 1_000_000

Total = Annotated[int, Meta(ge=1, le=MOST_WEIGHT, description=f"between 1 and {MOST_WEIGHT}")]


class WeightsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An HTTPRoute of the Gateway API whose weights follow the plan, for fleets that keep their
    router ([weights](actuation.md#weights-for-a-router-of-your-own)). Needs the verbs `get` and
    `patch` on it.
    """

    http_route: str
    """Name of the HTTPRoute."""
    refs: dict[str, str]
    """By pool, the name of the `backendRefs` entry that it stands for: a Service or an
    InferencePool. All pools are of one model. Weights of other entries stay as they are.
    """
    split: Literal["requests", "capacity"] = "requests"
    """`requests`: each pool gets the share of requests that the plan gives it. `capacity`: as many
    requests of all sizes as its planned backends can serve: for routers that do not look at sizes,
    where the plan gives pools different ones.
    """
    namespace: str | None = None
    """Where it is. Default: the namespace of the gateway's own pod; outside of a cluster `default`.
    """
    total: Total = 1000
    """Sum of the weights that are written in each rule."""
    interval_s: Positive = 30.0
    """Shortest time between two changes."""
    api_server: str | None = None
    """As in `pools.NAME.scale.kubernetes`."""
    token_file: str | None = None
    """As there."""
    ca_file: str | None = None
    """As there."""
