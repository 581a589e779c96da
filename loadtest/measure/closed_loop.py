"""A closed loop: what each user sends next, which answers count, and when there are enough.

No clock and no I/O: the same rules run over sockets and in virtual time.

All users begin at once, and with answers of one length they would stay in step: all prompts, then
all decoding. So user k of n begins with an answer of k/n of the length, and from then on their
ends are spread evenly. Counted are the requests sent after half of the users have had their first
answer: the batch then has the mean context of a steady one within a tenth of the answer's length.
"""

from statistics import fmean

from loadtest.measure.load import Exchanged, Load, LoadPoint, Unmeasurable

LEAST = 4  # requests that are counted, also of one user


class ClosedLoop:
    """One load: ask `begin` for each request that a user sends, tell `end` what came of it.

    started_s: when the first request was sent.
    """

    def __init__(self, load: Load, started_s: float) -> None:
        self.load = load
        self._started_s = started_s
        self._ramping = load.users - load.users // 2  # first answers until others count
        self._fresh = load.users  # users that have sent nothing yet
        self._wanted = max(load.users, LEAST)
        self._sent = 0  # requests that count
        self._answers: list[Exchanged] = []

    def begin(self) -> tuple[int, bool]:
        """The output tokens of a user's next request, and whether its answer counts."""
        outputs = self.load.output_tokens
        if self._fresh:
            share = (self.load.users - self._fresh + 1) / self.load.users
            self._fresh -= 1
            return max(round(outputs * share), 2), False
        counts = self._ramping <= 0 and self._sent < self._wanted
        self._sent += counts
        return outputs, counts

    def end(self, answer: Exchanged, counts: bool) -> None:
        """Take an answer. Raises Unmeasurable for one of a single token, which has no TPOT."""
        self._ramping -= 1
        if counts and answer.output_tokens < 2:
            raise Unmeasurable(
                f"the backend ends an answer of {self.load.output_tokens} tokens after "
                f"{answer.output_tokens}: it takes no ignore_eos"
            )
        if counts:
            self._answers.append(answer)

    @property
    def whole(self) -> bool:
        """Whether all answers that count are there; until then every user goes on."""
        return len(self._answers) == self._wanted

    def result(self, now_s: float, *, seats: int | None = None) -> LoadPoint:
        """The means. By Little's law the rate is that of the users over the time of a request."""
        answers = self._answers
        tpots_s = [(a.last_s - a.first_s) / (a.output_tokens - 1) for a in answers]
        return LoadPoint(
            load=self.load,
            input_tokens=fmean(a.input_tokens for a in answers),
            output_tokens=fmean(a.output_tokens for a in answers),
            rate=self.load.users / fmean(a.last_s - a.sent_s for a in answers),
            ttft_s=fmean(a.first_s - a.sent_s for a in answers),
            tpot_s=fmean(tpots_s),
            spread=max(tpots_s) / max(min(tpots_s), 1e-9),
            seconds=now_s - self._started_s,
            seats=seats,
        )
