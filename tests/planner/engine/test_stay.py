"""How long requests of many sizes stay beside each other, held against the simulated engine."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.engine.batching import Engine, FirstToken
from planner.engine.calibration import Calibration
from planner.engine.profiles import find_profile
from planner.engine.stay import Stays, expected_s
from planner.errors import InvalidValue

H100 = find_profile("llama-3-8b/H100", Path())
LINEAR = Calibration(
    iteration_s=0.008, sequence_s=1e-4, context_s=2e-8, prompt_s=3e-5, square_s=1e-10,
    request_s=1e-4,
)  # fmt: skip


def closed_loop(profile, users, *, seed=1, cached=0.0):
    """So many users on one engine, each sends its next request when the last one has ended: sizes
    and seconds of all requests, without those that met an engine which was still filling, or from
    which users had begun to leave."""
    count = 200 + 24 * users
    rng = np.random.default_rng(seed)
    inputs = np.clip(rng.lognormal(np.log(400), 0.8, count), 2, 4000).astype(int)
    outputs = np.clip(rng.lognormal(np.log(120), 0.7, count), 2, 900).astype(int)
    hits = (inputs * cached).astype(int)
    engine, begun, ended, now_s = Engine(profile), {}, {}, 0.0

    def send(key):
        begun[key] = now_s
        engine.submit(
            key, input_tokens=int(inputs[key]), output_tokens=int(outputs[key]), now_s=now_s,
            cached_tokens=int(hits[key]),
        )  # fmt: skip

    for key in range(users):
        send(key)
    while (due_s := engine.next_event_s) is not None:
        now_s = due_s
        for event in engine.advance(now_s):
            if not isinstance(event, FirstToken):
                ended[event.key] = event.at_s + engine.delay_s
                if len(begun) < count:
                    send(len(begun))
    steady = list(range(4 * users, count - 6 * users))
    seconds = np.array([ended[key] - begun[key] for key in steady])
    stays = Stays(
        inputs=inputs[steady].astype(float),
        outputs=outputs[steady].astype(float),
        cached=hits[steady].astype(float),
        in_flight=np.full(len(steady), float(users)),
        weight=np.ones(len(steady)),
    )
    return seconds, stays


@pytest.mark.parametrize("users", [1, 4, 24, 64])
@pytest.mark.parametrize("cached", [0.0, 0.6])
@pytest.mark.parametrize("profile", [H100, replace(H100, calibration=LINEAR)])
def test_a_mix_stays_as_long_as_in_the_engine(profile, users, cached):
    """Over all requests within 3 %, at any load, with hits and without."""
    seconds, stays = closed_loop(profile, users, cached=cached)

    assert expected_s(profile, stays).sum() == pytest.approx(seconds.sum(), rel=0.03)


def test_requests_that_wait_for_a_seat_stay_longer():
    """With twice as many users as the engine has seats, half of the time is a queue."""
    tight = replace(H100, max_num_seqs=16)
    seconds, stays = closed_loop(tight, 32)

    assert expected_s(tight, stays).sum() == pytest.approx(seconds.sum(), rel=0.05)


@pytest.mark.parametrize("profile", [H100, replace(H100, calibration=LINEAR)])
def test_a_slower_engine_is_slower_by_its_factor(profile):
    """At the same load everything takes as much longer, whatever the load is."""
    _, stays = closed_loop(profile, 12)
    ratio = expected_s(profile.slowed(1.4), stays) / expected_s(profile, stays)

    assert ratio == pytest.approx(np.full(len(ratio), 1.4), rel=0.01)


def test_a_mix_has_columns_of_one_length():
    """None at all is no mix either."""
    one, none = np.ones(1), np.ones(0)

    with pytest.raises(InvalidValue, match="one length"):
        Stays(inputs=one, outputs=none, cached=one, in_flight=one, weight=one)
    with pytest.raises(InvalidValue, match="one length"):
        Stays(inputs=none, outputs=none, cached=none, in_flight=none, weight=none)
