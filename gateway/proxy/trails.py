"""The trails of requests: how the beginning of a prompt is known again. No I/O.

Knows headers and callers, and no backend: where a prompt has been is `routing/affinity`'s.
"""

from collections.abc import Mapping
from secrets import randbits

from gateway.config.upstream import Upstream
from gateway.proxy.active import ActiveRequest
from gateway.proxy.http.request import Request
from gateway.proxy.names import Names
from gateway.routing.affinity import CALLER, OFF, Affinity
from gateway.routing.llm_request import LlmRequest
from gateway.routing.prefix_index import SALT_BITS
from gateway.routing.prefix_trail import FIRST, PrefixTrail, trail_of


class Trails:
    """Makes the trails of one process, and has what became of them learned."""

    def __init__(self, affinity: Affinity) -> None:
        self._affinity = affinity
        if not affinity.salt:
            affinity.salt = randbits(SALT_BITS)
        self._header: bytes | None = None
        self._without: frozenset[str] = frozenset()
        self._apart: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Trails of {self._affinity!r}>"

    def configure(
        self, header: str | None, names: Names, upstreams: Mapping[str, Upstream]
    ) -> None:
        """header: names a conversation. upstreams: by pool."""
        switches = {pool: upstream.affinity for pool, upstream in upstreams.items()}
        self._affinity.configure(switches)
        self._header = None if header is None else header.lower().encode()
        by_model = {m: [switches[pool] for pool in pools] for m, pools in names.pools.items()}
        self._without = frozenset([m for m, own in by_model.items() if set(own) <= {OFF}])
        self._apart = frozenset([m for m, own in by_model.items() if CALLER in own])

    def of(
        self, request: Request, llm_request: LlmRequest, model: str, caller: str
    ) -> PrefixTrail | None:
        """The trail of a request to a model; `None` if there is nothing to be known again."""
        session = None if self._header is None else request.fields.get(self._header)
        if session is None and len(request.body) < FIRST and llm_request.session is None:
            return None
        if model in self._without:
            return None
        return trail_of(
            llm_request,
            request.body,
            salt=self._affinity.salt,
            owner=caller if model in self._apart else "",
            session=session,
        )

    def learn(self, active: ActiveRequest) -> None:
        """A request with a trail has ended."""
        trail = active.estimate.trail
        if trail is not None and active.llm_request.one_choice:
            self._affinity.learn(trail, active.input_tokens, active.cached_tokens)
