"""A backend that is a simulated engine in virtual time: what measuring would find, in seconds.

Owns its clock, and the search for the true n*; the scheduler is `planner.engine.batching`'s, that
of emulated engines.
"""

import heapq
from typing import cast

from loadtest.measure.choice import most_users
from loadtest.measure.closed_loop import ClosedLoop
from loadtest.measure.load import Exchanged, Load, LoadPoint, Size
from planner.engine.batching import Engine, FirstToken
from planner.engine.profiles import Profile


class VirtualBackend:
    """An engine of this profile, idle before each load."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    async def play(self, load: Load) -> LoadPoint:
        """Put a load on a fresh engine until it is measured."""
        return self.played(load)

    def played(self, load: Load) -> LoadPoint:
        """The same without an event loop."""
        engine, loop = Engine(self._profile), ClosedLoop(load, 0.0)
        sending = [(0.0, user) for user in range(load.users)]  # heap: when, and who
        asked: dict[int, tuple[float, int, bool]] = {}
        began_s: dict[int, float] = {}
        now_s = 0.0
        while not loop.whole:
            due_s = engine.next_event_s
            if sending and (due_s is None or sending[0][0] <= due_s):
                now_s, user = heapq.heappop(sending)
                outputs, counts = loop.begin()
                asked[user] = now_s, outputs, counts
                engine.submit(
                    user, input_tokens=load.input_tokens, output_tokens=outputs, now_s=now_s
                )
                continue
            assert due_s is not None  # a user sends, or the engine works
            now_s = due_s
            for event in engine.advance(now_s):
                user, at_s = cast(int, event.key), event.at_s + engine.delay_s
                if type(event) is FirstToken:
                    began_s[user] = at_s
                    continue
                sent_s, outputs, counts = asked[user]
                answer = Exchanged(
                    sent_s=sent_s, first_s=began_s[user], last_s=at_s,
                    input_tokens=load.input_tokens, output_tokens=outputs,
                )  # fmt: skip
                loop.end(answer, counts)
                heapq.heappush(sending, (at_s, user))
        return loop.result(now_s)


def played_n_star(profile: Profile, size: Size, tpot_s: float) -> tuple[float, float] | None:
    """Requests that decode at once, and requests/s, where an engine's TPOT reaches the target.

    Between the two numbers of users around it, by a straight line. `None` if one user breaks the
    target already, or if seats and memory bound the users and not the target: as while measuring,
    some of the memory is left free.
    """
    backend = VirtualBackend(profile)

    def play(users: int) -> LoadPoint:
        return backend.played(Load(input_tokens=size[0], output_tokens=size[1], users=users))

    most = most_users(size, profile.max_num_seqs, profile.kv_capacity)
    low, high = play(1), play(most)
    if low.tpot_s > tpot_s or high.tpot_s <= tpot_s:
        return None
    while high.load.users - low.load.users > max(1, low.load.users // 100):
        found = play((low.load.users + high.load.users) // 2)
        low, high = (found, high) if found.tpot_s <= tpot_s else (low, found)
    share = (tpot_s - low.tpot_s) / (high.tpot_s - low.tpot_s)
    decoding = low.decoding + share * (high.decoding - low.decoding)
    return decoding, low.rate + share * (high.rate - low.rate)
