"""Two lines about a time of refusals, however many there are."""

import logging

from gateway.workers.shedding import QUIET_S, Shedding


def test_a_time_of_refusals_has_a_first_and_a_last_line(caplog):
    """The first refusal with its reason; the end after a quiet time, with their number."""
    caplog.set_level(logging.INFO)
    shedding = Shedding()
    shedding.tick(0.0)
    for at_s in (1.0, 3.0, 4.5):
        shedding.refused("saturated", at_s)
        shedding.tick(at_s + 1.0)
    shedding.tick(4.5 + QUIET_S)
    shedding.tick(5.0 + QUIET_S)
    shedding.refused("no_backend", 30.0)

    assert [record.getMessage() for record in caplog.records] == [
        "requests are refused: saturated",
        "requests are served again: 3 were refused in 3.5 s",
        "requests are refused: no_backend",
    ]
