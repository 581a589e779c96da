"""What workers know of each other's queues."""

import numpy as np
import pytest

from gateway.routing.shared_queue import (
    CALLERS,
    FRESH_S,
    POOLS,
    STALE_S,
    QueueView,
    SharedQueue,
)
from gateway.routing.turns import WINDOW_S, Served

IDS = ("00000001aa", "00000002bb", "")


def views(workers=3):
    memory = np.zeros(SharedQueue.doubles(workers=workers))
    shared_queue = SharedQueue(memory, workers=workers)
    return [QueueView(shared_queue, number) for number in range(workers)]


def test_the_first_of_the_others_is_seen_by_pool():
    """Of two other workers the one whose request comes earlier counts; one's own does not."""
    one, two, three = views()
    one.publish({0: (1, 5.0, 9.0), 3: (0, 7.0, 9.0)}, 10.0)
    two.publish({0: (1, 4.0, 9.0)}, 10.0)

    assert three.others(10.0) == {0: (1, 4.0, 9.0), 3: (0, 7.0, 9.0)}
    assert two.others(10.0) == {0: (1, 5.0, 9.0), 3: (0, 7.0, 9.0)}


def test_a_claim_ends_when_it_is_taken_back_or_not_renewed():
    """A queue that is empty claims nothing, nor does that of a worker that is stuck or new."""
    one, two, _ = views()
    one.publish({0: (0, 0.0, 9.0)}, 10.0)
    assert two.others(10.0 + FRESH_S / 2)
    assert not two.others(10.0 + FRESH_S)

    one.publish({0: (0, 0.0, 9.0)}, 20.0)
    one.publish({}, 20.0)
    assert not two.others(20.0 + STALE_S)


def test_what_is_known_is_read_again_after_a_moment():
    """Within some milliseconds the last look is good enough."""
    one, two, _ = views()
    two.others(10.0)
    one.publish({0: (0, 0.0, 9.0)}, 10.0)

    assert not two.others(10.0 + STALE_S / 2)
    assert two.others(10.0 + STALE_S)


def test_pools_beyond_the_array_are_not_shared():
    """More pools than there is room for cost the order between workers, and nothing else."""
    one, two, _ = views()
    one.publish({POOLS: (0, 0.0, 9.0)}, 10.0)

    assert not two.others(10.0)


def test_a_callers_part_is_that_of_all_workers():
    """Whatever worker gave the tokens, every worker counts them as one process would."""
    alone = Served({})
    shared = [view.served({}) for view in views()]
    rng, now_s = np.random.default_rng(4), 100.0
    for _ in range(500):
        now_s += float(rng.exponential(0.1))
        caller, tokens = IDS[rng.integers(3)], int(rng.integers(1, 100))
        alone.add(caller, tokens, now_s)
        shared[rng.integers(3)].add(caller, tokens, now_s)

    now_s += STALE_S
    for served in shared:
        for caller in IDS:
            assert served.tokens(caller, now_s) == pytest.approx(alone.tokens(caller, now_s))
            assert served.over(caller, now_s) == alone.over(caller, now_s)


def test_a_worker_that_gave_nothing_for_long_is_forgotten():
    """Its numbers stand still while the time goes on."""
    one, two, _ = (view.served({"00000001aa": 2.0}) for view in views())
    one.add(IDS[0], 100, 0.0)

    assert two.tokens(IDS[0], 0.0) == 50.0
    assert two.tokens(IDS[0], 1.5 * WINDOW_S) == pytest.approx(25.0)
    assert two.tokens(IDS[0], 2.5 * WINDOW_S) == 0.0


def test_any_number_of_callers_has_room():
    """Ids share places; none is lost and none breaks the array."""
    served = views(1)[0].served({})
    for n in range(3 * CALLERS):
        served.add(f"{n:08x}", 1, 0.0)

    assert served.tokens(f"{7:08x}", 0.0) == 3.0
