"""What one request takes of the limits of its key, from its arrival to its end."""

from gateway.access.key import AccessKey


class Charge:
    """The part of one request. lines: header lines of its answer, which tell the limits.

    window: in which it was counted. tokens: as estimated, until its end. used: as reported, of all
    its parts. served: whether a backend has worked for it.
    """

    __slots__ = ("key", "lines", "served", "tokens", "used", "window")

    def __init__(self, key: AccessKey, window: float, tokens: float, lines: bytes) -> None:
        self.key = key
        self.window = window
        self.tokens = tokens
        self.lines = lines
        self.used = 0.0
        self.served = False

    def __repr__(self) -> str:
        return f"<Charge {self.tokens:.0f} tokens of {self.key!r}>"

    def add(self, tokens: float) -> None:
        """A backend has worked on so many tokens for it."""
        self.used += tokens
        self.served = True
