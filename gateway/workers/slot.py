"""The place of one worker, which several processes fill in turn, and the pauses between them."""

import asyncio
from collections import deque
from multiprocessing.context import ForkServerProcess

from gateway.workers.channel import Channel
from gateway.workers.messages import Down, Up, WorkerReport

DEATHS, DEATHS_S = 5, 10.0  # so many deaths within so long are replaced at once; then with pauses
LONGEST_PAUSE_S = 30.0


class Backoff:
    """The pauses before dead workers of one slot are replaced."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS + 1)  # times of deaths, less all pauses
        self._pause_s = self._paused_s = 0.0

    def after(self, now_s: float) -> float:
        """Seconds to wait after a death at this time: 0, unless deaths are too frequent."""
        deaths = self._deaths
        deaths.append(now_s - self._paused_s)
        often = len(deaths) > DEATHS and deaths[-1] - deaths[0] <= DEATHS_S
        self._pause_s = min(max(1.0, 2 * self._pause_s), LONGEST_PAUSE_S) if often else 0.0
        self._paused_s += self._pause_s
        return self._pause_s


class Slot:
    """The place of one worker, which several processes fill in turn.

    process, channel: of the present process, if there is one. report: its last report, `None` until
    it listens. listening: done when the first process listened.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: ForkServerProcess | None = None
        self.channel: Channel[Up, Down] | None = None
        self.listening = asyncio.get_running_loop().create_future()
        self.report: WorkerReport | None = None
        self.backoff = Backoff()

    def __repr__(self) -> str:
        return f"<Slot {self.number}: {self.process!r}>"
