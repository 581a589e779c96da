"""What an engine said of itself when it was last asked for its metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReading:
    """What an engine's metrics say, of all its ranks together; `None`: they do not say.

    running, waiting: sequences in its batch and in its queue. kv_used: share of the KV cache in
    use, the mean of all ranks. kv_tokens: tokens that fit into it. hits, queries: prompt tokens
    found and looked up in the prefix cache, since the engine began. sleeping: whether it was put to
    sleep. at_s: when it was asked, on the caller's monotonic clock.
    """

    running: int
    waiting: int | None
    kv_used: float | None
    kv_tokens: int | None
    hits: float | None
    queries: float | None
    sleeping: bool | None
    at_s: float

    @property
    def requests(self) -> int:
        """Sequences that the engine has, of all its clients."""
        return self.running + (self.waiting or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFigures:
    """What the metrics show of one backend's engine.

    state: `None` if nothing is known now. foreign: sequences of other clients. age_s: seconds since
    its metrics were read last, `None` if they never were. failures: times that they could not be.
    """

    backend: str
    pool: str
    state: EngineReading | None
    foreign: int
    age_s: float | None
    failures: int
