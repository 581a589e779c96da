"""The fitted engine model: an iteration with a corner, and prompts that hide behind it."""

from dataclasses import replace

import pytest

from planner.engine.calibration import Calibration, Curve
from planner.engine.iteration import FittedIterationTime

LINEAR = Calibration(
    iteration_s=0.01, sequence_s=1e-4, context_s=1e-7, prompt_s=2e-5, square_s=1e-9, request_s=1e-3
)
CURVED = replace(LINEAR, iteration_s=0.002, weights_s=0.008, curve=Curve(knee=100.0))
EXPERTS = replace(CURVED, experts_s=0.01, curve=Curve(knee=100.0, idle_share=0.9))
FLOORED = replace(CURVED, curve=Curve(knee=100.0, floor=700.0))


def test_without_a_corner_every_load_adds_the_same():
    """A linear engine: sequences, context and prompts add up, whatever else an iteration holds."""
    decode_s = LINEAR.decode_s(8.0, 500.0)

    assert decode_s == pytest.approx(0.01 + 8 * (1e-4 + 1e-7 * 500))
    assert LINEAR.prefill_s(1000.0) == pytest.approx(0.01 + 1e-3 + 0.02 + 1e-3)
    mixed_s = LINEAR.step_s(1008.0, 8.0, 8 * 500.0, 1000.0**2, prefill=True)
    assert mixed_s - decode_s == pytest.approx(0.02 + 1e-3)


def test_a_short_prompt_hides_behind_the_weights():
    """Among few sequences it costs a small part of what its tokens cost among many."""

    def more_s(batch: float) -> float:
        mixed_s = CURVED.step_s(batch + 30, batch, 0.0, 900.0, prefill=True)
        return float(mixed_s - CURVED.decode_s(batch, 0.0))

    assert more_s(4.0) < more_s(400.0) / 2
    # far above the knee a token costs m/b more than its linear part
    linear_s = CURVED.prompt_s * 30 + CURVED.square_s * 900
    assert more_s(400.0) == pytest.approx(linear_s + CURVED.weights_s * 30 / 100.0, rel=0.1)


def test_a_prompt_below_the_floor_takes_as_long_as_one_at_it():
    """Whatever else its iteration holds, as far as tokens count; decode steps have no floor."""
    short_s, long_s = FLOORED.prefill_s(50.0), FLOORED.prefill_s(700.0)

    assert short_s == pytest.approx(long_s - FLOORED.square_s * (700**2 - 50**2))
    assert FLOORED.prefill_s(1400.0) > 1.5 * long_s
    assert FLOORED.decode_s(50.0, 10.0) == CURVED.decode_s(50.0, 10.0)


@pytest.mark.parametrize(
    "fitted", [LINEAR, CURVED, EXPERTS, FLOORED], ids=["linear", "curved", "experts", "floor"]
)
def test_the_simulator_has_the_same_iterations(fitted: Calibration):
    """Decode, one prompt alone, and a prompt among sequences take what the formula says."""
    times = FittedIterationTime(fitted)

    decode_s = times.kernels_s(32, 32) + times.context_s * 32 * 700
    alone_s = times.mixed_s(512, 0, 0, 512**2) + times.request_s
    both_s = times.mixed_s(32 + 512, 32, 32 * 700, 512**2)

    assert decode_s == pytest.approx(fitted.decode_s(32.0, 700.0))
    assert alone_s == pytest.approx(fitted.prefill_s(512.0))
    stated_s = fitted.step_s(544.0, 32.0, 32 * 700.0, 512.0**2, prefill=True)
    assert both_s == pytest.approx(stated_s)


def test_more_tokens_read_more_of_the_experts():
    """Up to all of them: a mixture's decode steps grow with the batch, and then no more."""
    grown_s = [EXPERTS.decode_s(n, 0.0) - CURVED.decode_s(n, 0.0) for n in (1.0, 10.0, 1000.0)]

    assert grown_s == pytest.approx([0.1 * 0.01, (1 - 0.9**10) * 0.01, 0.01])


def test_a_slower_engine_is_slower_in_everything():
    """All constants, and its curve stays where it was."""
    slow = FLOORED.slowed(1.5)

    assert slow.constants == pytest.approx(1.5 * FLOORED.constants)
    assert slow.curve == FLOORED.curve
