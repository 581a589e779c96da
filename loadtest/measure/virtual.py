"""A backend that is a simulated engine in virtual time: what measuring would find, in seconds.

Owns its clock, and the search for the true n*; the scheduler is `planner.engine.batching`'s, that
of emulated engines.
"""

import heapq
from statistics import fmean
from typing import cast

import msgspec

from loadtest.measure.choice import most_users
from loadtest.measure.closed_loop import ClosedLoop
from loadtest.measure.load import Exchanged, Load, LoadPoint, Size
from planner.engine.batching import Engine, FirstToken
from planner.engine.profiles import Profile

PLAYS = 4  # of one load, with other lengths: what is measured has one


class VirtualBackend:
    """An engine of this profile, idle before each load."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    async def play(self, load: Load) -> LoadPoint:
        """Put a load on a fresh engine until it is measured."""
        return self.played(load)

    def played(self, load: Load, seed: int = 0) -> LoadPoint:
        """The same without an event loop. seed: for other lengths."""
        engine, loop = Engine(self._profile), ClosedLoop(load, 0.0, seed=seed)
        sending = [(0.0, user) for user in range(load.users)]  # heap: when, and who
        asked: dict[int, tuple[float, int, int, bool]] = {}
        began_s: dict[int, float] = {}
        now_s, counting_s, area = 0.0, 0.0, 0.0  # area: Σ requests in the batch · seconds
        while not loop.whole:
            due_s = engine.next_event_s
            sends = bool(sending) and (due_s is None or sending[0][0] <= due_s)
            assert sends or due_s is not None  # a user sends, or the engine works
            at_s = sending[0][0] if sends else cast(float, due_s)
            if loop.counting:
                counting_s += at_s - now_s
                area += (at_s - now_s) * engine.running
            now_s = at_s
            if sends:
                user = heapq.heappop(sending)[1]
                inputs, outputs, counts = loop.begin()
                asked[user] = now_s, inputs, outputs, counts
                engine.submit(user, input_tokens=inputs, output_tokens=outputs, now_s=now_s)
                continue
            for event in engine.advance(now_s):
                user, seen_s = cast(int, event.key), event.at_s + engine.delay_s
                if type(event) is FirstToken:
                    began_s[user] = seen_s
                    continue
                sent_s, inputs, outputs, counts = asked[user]
                answer = Exchanged(
                    sent_s=sent_s, first_s=began_s[user], last_s=seen_s,
                    input_tokens=inputs, output_tokens=outputs,
                )  # fmt: skip
                heapq.heappush(sending, (seen_s + loop.end(answer, counts), user))
        return msgspec.structs.replace(loop.result(now_s), running=area / counting_s)


def played_n_star(profile: Profile, size: Size, tpot_s: float) -> tuple[float, float] | None:
    """Requests in the batch, and requests/s, where an engine's TPOT reaches the target.

    Means of `PLAYS` plays, and between the two numbers of users around the target by a straight
    line. `None` if one user breaks the target already, or if seats and memory bound the users and
    not the target: as while measuring, some of the memory is left free.
    """
    backend = VirtualBackend(profile)

    def play(users: int) -> tuple[float, float, float]:
        load = Load(input_tokens=size[0], output_tokens=size[1], users=users)
        points = [backend.played(load, seed) for seed in range(1, PLAYS + 1)]
        rows = [(one.tpot_s, one.running or 0.0, one.rate) for one in points]
        tpot, running, rate = (fmean(column) for column in zip(*rows, strict=True))
        return tpot, running, rate

    few, many = 1, most_users(size, profile.max_num_seqs, profile.kv_capacity)
    low, high = play(few), play(many)
    if low[0] > tpot_s or high[0] <= tpot_s:
        return None
    while many - few > max(1, few // 100):
        middle = (few + many) // 2
        found = play(middle)
        if found[0] <= tpot_s:
            few, low = middle, found
        else:
            many, high = middle, found
    share = (tpot_s - low[0]) / (high[0] - low[0])
    return low[1] + share * (high[1] - low[1]), low[2] + share * (high[2] - low[2])
