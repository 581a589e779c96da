"""The tokens of each caller over all gateways of a cluster, since the first of them. Pure.

What this gateway counted is in it at once, what others counted after their next report. A budget
reads the difference of two moments.
"""

from collections.abc import Mapping

from gateway.telemetry.stats_schema import Use

KNOWN = 10_000  # callers; beyond, those with the fewest tokens are forgotten


def tokens_of(uses: Mapping[tuple[str, str, str], Use]) -> dict[str, int]:
    """Tokens of prompts and answers by caller, of what was used by caller, model and pool."""
    tokens: dict[str, int] = {}
    for (caller, _, _), (_, inputs, outputs, _) in uses.items():
        tokens[caller] = tokens.get(caller, 0) + inputs + outputs
    return tokens


class CallerTokens:
    """The sums, by id of the caller."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<CallerTokens of {len(self.totals)} callers>"

    def add(self, tokens: Mapping[str, int]) -> None:
        """Add what some gateway counted since it last told."""
        totals = self.totals
        for caller, count in tokens.items():
            totals[caller] = totals.get(caller, 0) + count
        if len(totals) > KNOWN:
            most = sorted(totals, key=totals.__getitem__, reverse=True)[: KNOWN // 2]
            self.totals = {caller: totals[caller] for caller in most}

    def join(self, totals: Mapping[str, int]) -> None:
        """Begin with what other gateways have counted until now."""
        self.add(totals)

    def of(self, caller: str) -> int:
        """The tokens of one caller."""
        return self.totals.get(caller, 0)
