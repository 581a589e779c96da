"""Simulated engines with prefix caches: what each has of a prompt when it gets it.

Knows no router but as a `Dispatch`. A prompt counts as computed from its placement on, as in
`emulator/prefix_cache`: engines take prompts in order, so the next one finds it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from loadtest.compare.prefixes import PrefixTrace
from planner.engine.batching import Engine
from planner.engine.profiles import Profile
from planner.proof.timeline import Dispatch, Placed


class EngineCache:
    """The blocks that one engine has, least recently used first. Running requests take their room
    first. listener: is told which blocks came and which went, if any is to hear it."""

    def __init__(
        self, engine: Engine, profile: Profile, block_tokens: int, share: float = 1.0
    ) -> None:
        """share: of the KV cache of its profile, that it has for what no request uses."""
        self._engine = engine
        self._most, self._share = profile.kv_capacity / block_tokens, share
        self.listener: Callable[[list[int], list[int]], None] | None = None
        self._block_tokens = block_tokens
        self._known: OrderedDict[int, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<EngineCache of {len(self._known)} blocks>"

    def length(self, blocks: Sequence[int]) -> int:
        """How many blocks of a prompt it has, from the first on."""
        return next((n for n, block in enumerate(blocks) if block not in self._known), len(blocks))

    def take(self, blocks: Sequence[int], input_tokens: int) -> int:
        """Compute a prompt; return how many of its tokens it had."""
        cached = min(self.length(blocks) * self._block_tokens, input_tokens - 1)
        came = [block for block in blocks if block not in self._known]
        for block in reversed(blocks):  # the end of a prompt is forgotten before its beginning
            self._known[block] = None
            self._known.move_to_end(block)
        room, went = self._most * min(self._share, 1.0 - self._engine.kv_used), []
        while len(self._known) > room:
            went.append(self._known.popitem(last=False)[0])
        if self.listener is not None:
            self.listener(came, went)
        return cached


class CachingFleet:
    """Engines with caches: a `Dispatch` around another one, which notes hits where requests are
    placed. cached: (N,) tokens of each prompt that its engine had."""

    def __init__(
        self,
        traffic: PrefixTrace,
        profiles: Sequence[Profile],
        requests: Sequence[int],
        share: float = 1.0,
    ) -> None:
        """requests: (N,) input tokens. share: see `EngineCache`."""
        self._blocks, self._inputs = traffic.blocks, requests
        self.engines = [Engine(profile) for profile in profiles]
        self.caches = [
            EngineCache(engine, profile, traffic.block_tokens, share)
            for engine, profile in zip(self.engines, profiles, strict=True)
        ]
        self.cached = [0] * len(requests)
        self._inner: Dispatch | None = None

    def __repr__(self) -> str:
        return f"<CachingFleet of {len(self.engines)} engines>"

    def led_by(self, inner: Dispatch) -> "CachingFleet":
        """The same, where another one decides."""
        self._inner = inner
        return self

    def arrive(self, request: int, now_s: float) -> Iterable[Placed]:
        assert self._inner is not None
        return self._take(self._inner.arrive(request, now_s))

    def room(self, now_s: float) -> Iterable[Placed]:
        assert self._inner is not None
        return self._take(self._inner.room(now_s))

    def due_s(self) -> float:
        assert self._inner is not None
        return self._inner.due_s()

    def _take(self, placed: Iterable[Placed]) -> list[Placed]:
        placed = list(placed)
        for request, backend, _ in placed:
            blocks, inputs = self._blocks[request], self._inputs[request]
            self.cached[request] = self.caches[backend].take(blocks, inputs)
        return placed
