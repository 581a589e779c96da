"""Whether Redis answers, and how long it has not. Pure."""

from math import inf

LONGEST_S = 2.0  # between two attempts


class Link:
    """The link of one gateway. up: whether the last attempt was good. error: why it was not, one
    line; empty if it was. failures: in all."""

    def __init__(self) -> None:
        self.up = False
        self.error = ""
        self.failures = 0
        self._in_a_row = 0
        self._good_s: float | None = None

    def __repr__(self) -> str:
        return f"<Link {'up' if self.up else self.error or 'not up yet'}>"

    def works(self, now_s: float) -> bool:
        """An attempt was good. Returns whether that is news."""
        news, self.up = not self.up, True
        self.error, self._in_a_row, self._good_s = "", 0, now_s
        return news

    def failed(self, why: str, now_s: float) -> bool:
        """An attempt was not. Returns whether that is news."""
        news, self.up, self.error = self.up or not self.error, False, why
        self.failures += 1
        self._in_a_row += 1
        return news

    def down_s(self, now_s: float) -> float:
        """Seconds since the last good attempt; 0 while they are good."""
        if self.up:
            return 0.0
        return inf if self._good_s is None else now_s - self._good_s

    def pause_s(self, interval_s: float) -> float:
        """Seconds until the next attempt: longer after each that failed."""
        longer = interval_s * 2.0 ** min(self._in_a_row, 10)
        return interval_s if self.up else min(longer, max(interval_s, LONGEST_S))
