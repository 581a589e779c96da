"""What one replayed request turned out to be, as its client saw it. Does no sending."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request of a replay. Times in seconds; `None` where the request never came so far.

    arrival_s, sent_s: when it was due and when it was sent, both since the replay's start.
    ttft_s, e2e_s: from `sent_s` to the first non-empty content, and to the end of the exchange.
    tpot_s: (last − first token)/(output_tokens − 1), `None` under two tokens.
    input_tokens, output_tokens: from the reply's `usage`; without one, the trace's input tokens and
    the number of content events. cached_tokens: of the input, prefix hits as the reply's `usage`
    has them. status: of the HTTP reply. key: the sender's key in the trace.
    error: the kind of failure, short enough to count by. message: the server's own words, or the
    exception's. pool to request_id: the gateway's receipt headers.
    """

    index: int
    arrival_s: float
    sent_s: float
    e2e_s: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    status: int | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    message: str | None = None
    key: str = ""
    pool: str | None = None
    backend: str | None = None
    bucket: str | None = None
    plan: str | None = None
    decision: str | None = None
    request_id: str | None = None

    @property
    def lag_s(self) -> float:
        """How late the generator itself was.

        Latencies count from `sent_s`, so they do not contain this lag: where it is not small beside
        TTFT, the run measured the generator and the load was not the trace's.
        """
        return self.sent_s - self.arrival_s


def tpot_s(first_s: float | None, last_s: float | None, tokens: int) -> float | None:
    """Mean seconds between tokens, from the times of the first and the last token."""
    if first_s is None or last_s is None or tokens < 2:
        return None
    return (last_s - first_s) / (tokens - 1)
