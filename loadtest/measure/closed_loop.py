"""A closed loop: what each user sends next, which answers count, and when there are enough.

No clock and no I/O: the same rules run over sockets and in virtual time.

Engines fall into step with requests of exactly one size: answers that began in one iteration end in
one, and their users' next prompts share another. Traffic never does that, so several users send
lengths up to a quarter shorter and longer than asked for, at random but the same in every run of
one load; and as all begin at once, the first answer of each is cut anywhere. Counted are the
requests sent after half of the users have had their first answer: the batch then has the mean
context of a steady one within a tenth of the answer's length.
"""

from collections.abc import Sequence
from random import Random
from statistics import fmean

from loadtest.measure.load import Exchanged, Load, LoadPoint, Unmeasurable

LEAST = 4  # requests that are counted, also of one user
FEW = 16  # of several users: their lengths differ
VARIED = 0.25  # of a length, up and down
PAUSE = 0.2  # of the time that an answer took, at most


class ClosedLoop:
    """One load: ask `begin` for each request that a user sends, tell `end` what came of it.

    started_s: when the first request was sent. seed: for other lengths.
    """

    def __init__(self, load: Load, started_s: float, *, seed: int = 0) -> None:
        self.load = load
        self._started_s = started_s
        self._random = Random(f"{load.input_tokens}/{load.output_tokens}/{load.users}/{seed}")
        self._ramping = load.users - load.users // 2  # first answers until others count
        self._fresh = load.users  # users that have sent nothing yet
        self._wanted = LEAST if load.users == 1 else max(load.users, FEW)
        self._sent = 0  # requests that count
        self._answers: list[Exchanged] = []
        self._pauses_s: list[float] = []

    def begin(self) -> tuple[int, int, bool]:
        """A user's next request: its input and output tokens, and whether its answer counts."""
        inputs = self._length(self.load.input_tokens)
        outputs = self._length(self.load.output_tokens)
        if self._fresh:
            self._fresh -= 1
            return inputs, max(round(outputs * self._random.random()), 2), False
        counts = self.counting and self._sent < self._wanted
        self._sent += counts
        return inputs, max(outputs, 2), counts

    def _length(self, tokens: int) -> int:
        if self.load.users == 1:
            return tokens
        return max(1, round(tokens * self._random.uniform(1 - VARIED, 1 + VARIED)))

    def end(self, answer: Exchanged, counts: bool) -> float:
        """Take an answer; return how many seconds its user pauses. Raises Unmeasurable for one of a
        single token, which has no TPOT."""
        self._ramping -= 1
        if counts and answer.output_tokens < 2:
            raise Unmeasurable(
                f"the backend ends an answer of {self.load.output_tokens} tokens after "
                f"{answer.output_tokens}: it takes no ignore_eos"
            )
        pause_s = 0.0
        if self.load.users > 1:
            pause_s = self._random.uniform(0, PAUSE) * (answer.last_s - answer.sent_s)
        if counts:
            self._answers.append(answer)
            self._pauses_s.append(pause_s)
        return pause_s

    @property
    def counting(self) -> bool:
        """Whether requests that are sent now count, or did: the load is steady."""
        return self._ramping <= 0

    @property
    def whole(self) -> bool:
        """Whether all answers that count are there; until then every user goes on."""
        return len(self._answers) == self._wanted

    def result(self, now_s: float, *, seats: int | None = None) -> LoadPoint:
        """The means. By Little's law the rate is that of the users over the time from one request
        to the next."""
        answers = self._answers
        stay_s = fmean(a.last_s - a.sent_s for a in answers)
        tpots_s = [(a.last_s - a.first_s) / (a.output_tokens - 1) for a in answers]
        return LoadPoint(
            load=self.load,
            input_tokens=fmean(a.input_tokens for a in answers),
            output_tokens=fmean(a.output_tokens for a in answers),
            rate=self.load.users / (stay_s + fmean(self._pauses_s)),
            ttft_s=fmean(a.first_s - a.sent_s for a in answers),
            tpot_s=fmean(tpots_s),
            spread=max(tpots_s) / max(min(tpots_s), 1e-9),
            seconds=now_s - self._started_s,
            seats=seats,
            at_once=_at_once(answers),
        )


def _at_once(answers: Sequence[Exchanged]) -> float | None:
    """Tokens in one piece of an answer; `None` where it is not known of any."""
    each = [a.output_tokens / a.reads for a in answers if a.reads]
    return fmean(each) if each else None
