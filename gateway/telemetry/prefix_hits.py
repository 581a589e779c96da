"""How much of the prompts engines take from their prefix caches, by caller and pool. No I/O.

Knows no request: it adds up what workers counted. The plan uses the same hits by size, from the
demand as observed.
"""

from collections import OrderedDict
from collections.abc import Mapping

from gateway.telemetry.stats_schema import Hits

ROWS = 1000  # pairs of caller and pool kept; the one without requests for longest goes first
HALF_TOKENS = 1e6  # prompt tokens after which older ones count half: some hundred prompts


class HitRow:
    """The hits of one caller in one pool.

    prompt_tokens, cached_tokens: since the row began.
    """

    __slots__ = ("_cached", "_prompt", "cached_tokens", "prompt_tokens")

    def __init__(self) -> None:
        self.prompt_tokens = self.cached_tokens = 0
        self._prompt = self._cached = 0.0

    def add(self, hits: Hits) -> None:
        """Add what was counted since the last time."""
        prompt, cached = hits
        fade = 0.5 ** (prompt / HALF_TOKENS)
        self._prompt = fade * self._prompt + prompt
        self._cached = fade * self._cached + cached
        self.prompt_tokens += prompt
        self.cached_tokens += cached

    @property
    def share(self) -> float:
        """The share of the prompt tokens that were hits; recent ones weigh more."""
        return self._cached / self._prompt if self._prompt else 0.0


class PrefixHits:
    """The rows of one gateway, at most `ROWS`."""

    def __init__(self) -> None:
        self._rows: OrderedDict[tuple[str, str], HitRow] = OrderedDict()

    def __repr__(self) -> str:
        return f"<PrefixHits of {len(self._rows)} callers and pools>"

    def add(self, hits: Mapping[tuple[str, str], Hits]) -> None:
        """Add what a worker counted, by caller and pool."""
        for key, counted in hits.items():
            row = self._rows.setdefault(key, HitRow())
            row.add(counted)
            self._rows.move_to_end(key)
        while len(self._rows) > ROWS:
            self._rows.popitem(last=False)

    def figures(self) -> list[dict[str, object]]:
        """All rows for a JSON object, those with most prompt tokens first."""
        ordered = sorted(self._rows.items(), key=lambda item: -item[1].prompt_tokens)
        return [
            {
                "caller": caller,
                "pool": pool,
                "prompt_tokens": row.prompt_tokens,
                "cached_tokens": row.cached_tokens,
                "share": round(row.share, 4),
            }
            for (caller, pool), row in ordered
        ]
