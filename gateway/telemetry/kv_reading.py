"""What engines published of their prefix caches, as the metrics show it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KvFigures:
    """One backend that is to publish.

    connected: whether all its ranks' publishers are there. held_tokens: in its prefix cache,
    `None` if it is not known. events, gaps: counted since its URL is known.
    """

    backend: str
    pool: str
    connected: bool
    held_tokens: int | None
    events: int
    gaps: int
