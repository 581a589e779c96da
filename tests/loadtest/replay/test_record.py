"""TPOT from the times of two tokens."""

import pytest

from loadtest.replay.record import tpot_s


def test_tpot_is_the_mean_time_between_tokens():
    """Three tokens have two times between them; under two tokens there is none."""
    assert tpot_s(1.0, 2.0, 3) == pytest.approx(0.5)
    assert tpot_s(1.0, 1.0, 1) is None
    assert tpot_s(None, None, 5) is None
