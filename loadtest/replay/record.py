"""What one replayed request turned out to be, as its client saw it. Does no sending."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request of a replay. Times in seconds; `None` where the request never came so far.

    arrival_s: when it was due, sent_s: when it was sent, both since the replay's start.
    status: of the HTTP reply. ttft_s, e2e_s: from `sent_s` to the first non-empty content, and to
    the end of the exchange. tpot_s: (last − first token)/(output_tokens − 1), `None` under two
    tokens. input_tokens, output_tokens: from the reply's `usage`; without it what the trace asked
    for, and the number of content events. key: who sent it, as the trace says.
    error: the kind of failure, short enough to be counted by; message: the server's or the
    exception's own words. pool … request_id: the receipt headers.
    """

    index: int
    arrival_s: float
    sent_s: float
    e2e_s: float
    input_tokens: int
    output_tokens: int
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
        """How late the generator itself was: large values make its latencies worthless."""
        return self.sent_s - self.arrival_s


def tpot_s(first_s: float | None, last_s: float | None, tokens: int) -> float | None:
    """Mean seconds between tokens, from the times of the first and the last of them."""
    if first_s is None or last_s is None or tokens < 2:
        return None
    return (last_s - first_s) / (tokens - 1)
