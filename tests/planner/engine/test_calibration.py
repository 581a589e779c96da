"""The fitted engine model: an iteration with a corner, and prompts that hide behind it."""

from dataclasses import replace

import numpy as np
import pytest

from planner.engine.calibration import Calibration, Curve, others
from planner.engine.iteration import FittedIterationTime

LINEAR = Calibration(
    iteration_s=0.01, sequence_s=1e-4, context_s=1e-7, prompt_s=2e-5, square_s=1e-9, request_s=1e-3
)
CURVED = replace(LINEAR, iteration_s=0.002, weights_s=0.008, curve=Curve(knee=100.0))


def test_without_a_corner_every_load_adds_the_same():
    """A linear engine: sequences, context and prompts add up, whatever else an iteration holds."""
    assert LINEAR.decode_s(8.0, 500.0) == pytest.approx(0.01 + 8 * (1e-4 + 1e-7 * 500))
    assert LINEAR.prefill_share_s(1000.0) == pytest.approx(1e-3 + 0.02 + 1e-3)
    assert LINEAR.prefill_share_s(1000.0, batch=64.0, prompts=3.0) == LINEAR.prefill_share_s(1000.0)


def test_a_request_does_not_wait_for_its_own_prompt():
    """Alone there is nothing between its tokens; each other request adds its prompt once."""
    alone_s = LINEAR.tpot_s(1.0, 1000.0, 100.0)
    three_s = LINEAR.tpot_s(3.0, 1000.0, 100.0)

    assert alone_s == LINEAR.decode_s(1.0, 1050.0)
    prompts_s = three_s - LINEAR.decode_s(3.0, 1050.0)
    assert prompts_s == pytest.approx(2 / 100 * LINEAR.prefill_share_s(1000.0))


def test_a_short_prompt_hides_behind_the_weights():
    """Among few sequences it costs a small part of what its tokens cost among many."""
    few_s = CURVED.prefill_share_s(30.0, batch=4.0) - CURVED.request_s
    many_s = CURVED.prefill_share_s(30.0, batch=400.0) - CURVED.request_s

    assert few_s < many_s / 2
    # far above the knee a token costs m/b more than its linear part
    linear_s = CURVED.prompt_s * 30 + CURVED.square_s * 900
    assert many_s == pytest.approx(linear_s + CURVED.weights_s * 30 / CURVED.curve.knee, rel=0.1)


def test_tpot_rises_with_the_load():
    """So that n* can be found by bisection, for any size."""
    batches = np.linspace(1, 1000, 400)
    for inputs, outputs in ((20.0, 300.0), (512.0, 16.0), (8000.0, 64.0)):
        tpots_s = CURVED.tpot_s(batches, inputs, outputs)
        assert np.all(np.diff(np.asarray(tpots_s)) > 0)


EXPERTS = replace(CURVED, experts_s=0.01, curve=Curve(knee=100.0, idle_share=0.9))


@pytest.mark.parametrize("fitted", [LINEAR, CURVED, EXPERTS], ids=["linear", "curved", "experts"])
def test_the_simulator_has_the_same_iterations(fitted: Calibration):
    """Decode, one prompt alone, and a prompt among sequences take what the formula says."""
    times = FittedIterationTime(fitted)

    decode_s = times.kernels_s(32, 32) + times.context_s * 32 * 700
    alone_s = times.mixed_s(512, 0, 0, 512**2) + times.request_s
    both_s = times.mixed_s(32 + 512, 32, 32 * 700, 512**2) + times.request_s

    assert decode_s == pytest.approx(fitted.decode_s(32.0, 700.0))
    assert alone_s == pytest.approx(fitted.prefill_s(512.0))
    share_s = fitted.prefill_share_s(512.0, batch=32.0)
    assert both_s - decode_s == pytest.approx(share_s)


def test_prompts_that_start_in_one_iteration_share_what_hides_them():
    """Two short prompts in one iteration hide less each; from one per iteration on it counts."""
    half, one, two = (
        CURVED.prefill_share_s(60.0, batch=4.0, prompts=prompts) for prompts in (0.5, 1.0, 2.0)
    )

    assert half == one < two
    assert others(1.0, 50.0) == 0.0
    assert others(101.0, 50.0) == 2.0


def test_more_tokens_read_more_of_the_experts():
    """Up to all of them: a mixture's decode steps grow with the batch, and then no more."""
    grown_s = [EXPERTS.decode_s(n, 0.0) - CURVED.decode_s(n, 0.0) for n in (1.0, 10.0, 1000.0)]

    assert grown_s == pytest.approx([0.1 * 0.01, (1 - 0.9**10) * 0.01, 0.01])
