"""Plays a measured run on the engine model, and says what it would have measured.

The scheduler is `batching`'s, the same that certifies plans and paces emulated engines. Knows no
SLO and no fleet.
"""

from dataclasses import dataclass

import numpy as np

from planner.engine import catalogue
from planner.engine.batching import Engine, FirstToken
from planner.engine.hardware import ENGINES
from planner.engine.profiles import Profile, analytic
from planner.engine.roofline import roofline
from planner.engine.runs import Run
from planner.errors import InvalidValue

# A stage is played for so long and not to its end: arrivals at constant gaps and sizes that are all
# alike repeat themselves. The first third is the engine's filling.
STAGE_S = 90.0
WARM_UP = 1 / 3
ROUNDS = 2  # that every user of a closed loop plays after the first one, which fills the engine
# A queue that is longer than this share of the requests so far does not end: the engine is full.
SATURATED = 0.25
MOST_SEATS, MOST_CONTEXT = 2048, 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Predicted means in seconds by metric. saturated: whether the queue grew without end."""

    predicted_s: dict[str, float]
    saturated: bool


def profile_of(run: Run) -> Profile:
    """The analytic profile of the engine of a run. Raises InvalidValue if there is none: an engine
    without a row, a model that does not fit, fp8 on a GPU without it."""
    engine = ENGINES.get(run.engine)
    if engine is None:
        raise InvalidValue(f"no row of the engine {run.engine}")
    width = 1 if run.fp8 else 2
    model = catalogue.models()[run.model]
    backend = roofline(
        catalogue.gpus()[run.gpu],
        model,
        engine,
        gpus=run.gpus,
        weight_bytes=width,
        kv_bytes=width,
    )
    tokens = run.input_tokens + run.output_tokens
    profile = analytic(
        backend,
        max_num_seqs=MOST_SEATS,
        max_num_batched_tokens=run.max_num_batched_tokens,
        max_model_len=max(tokens, min(model.context or MOST_CONTEXT, MOST_CONTEXT)),
    )
    if profile.kv_capacity < tokens:
        raise InvalidValue(f"{run.gpus} × {run.gpu} have no room for one request")
    return profile


def play(run: Run) -> Played:
    """Plays a run. Raises InvalidValue as `profile_of` does."""
    log = _Log(run, Engine(profile_of(run)))
    return _closed_loop(log) if run.users else _open_loop(log)


class _Log:
    """An engine, and when each request of a run came, began and ended."""

    def __init__(self, run: Run, engine: Engine) -> None:
        self.run = run
        self.engine = engine
        self.came_s: list[float] = []
        self.began_s: dict[int, float] = {}
        self.ended_s: dict[int, float] = {}
        self._cached = int(run.cached_share * run.input_tokens)

    def submit(self, now_s: float) -> None:
        """Send the next request."""
        run = self.run
        self.engine.submit(
            len(self.came_s),
            input_tokens=run.input_tokens,
            output_tokens=run.output_tokens,
            now_s=now_s,
            cached_tokens=self._cached,
        )
        self.came_s.append(now_s)

    def advance(self, now_s: float) -> int:
        """Let the engine work until now; return how many requests have ended since."""
        ended = 0
        for event in self.engine.advance(now_s):
            key: int = event.key  # type: ignore[assignment]
            at_s = event.at_s + self.engine.delay_s
            if type(event) is FirstToken:
                self.began_s[key] = at_s
            else:
                self.ended_s[key] = at_s
                ended += 1
        return ended

    def means(self, requests: list[int]) -> dict[str, float]:
        """The means over these requests, by metric."""
        came, began, ended = (
            np.array([times[n] for n in requests])
            for times in (self.came_s, self.began_s, self.ended_s)
        )
        gaps = max(self.run.output_tokens - 1, 1)
        means = {"ttft": began - came, "itl": (ended - began) / gaps, "e2e": ended - came}
        return {
            metric: float(np.mean(values))
            for metric, values in means.items()
            if metric in self.run.measured_s
        }


def _open_loop(log: _Log) -> Played:
    """The stages one after another; each counts by the number of its requests."""
    sums, requests, saturated = dict.fromkeys(log.run.measured_s, 0.0), 0.0, False
    start_s = 0.0
    for rate, stated_s in log.run.stages:
        seconds = min(stated_s, STAGE_S)
        first = len(log.came_s)
        count = max(int(rate * seconds), 1)
        for n in range(count):
            log.advance(start_s + n / rate)
            log.submit(start_s + n / rate)
        saturated = saturated or log.engine.waiting > SATURATED * count
        start_s += seconds
        while len(log.ended_s) < len(log.came_s):
            start_s = max(start_s, log.engine.next_event_s or start_s)
            log.advance(start_s)
        kept = list(range(first + int(WARM_UP * count), first + count))
        for metric, mean_s in log.means(kept).items():
            sums[metric] += mean_s * rate * stated_s
        requests += rate * stated_s
    return Played(
        predicted_s={metric: total / requests for metric, total in sums.items()},
        saturated=saturated,
    )


def _closed_loop(log: _Log) -> Played:
    """Every user sends the next request when the last one has ended. Two ends are not counted: the
    first request of each user, while the engine fills, and the last ones, while it empties."""
    users = log.run.users
    total = users * (1 + ROUNDS)
    for _ in range(users):
        log.submit(0.0)
    while (now_s := log.engine.next_event_s) is not None:
        for _ in range(log.advance(now_s)):
            if len(log.came_s) < total:
                log.submit(now_s)
    return Played(predicted_s=log.means(list(range(users, total - users // 2))), saturated=False)
