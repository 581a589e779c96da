"""How prompts share iterations, and what they add to the answers beside them."""

import numpy as np
import pytest

from planner.engine import catalogue
from planner.engine.calibration import Calibration
from planner.engine.hardware import ENGINES, Schedule
from planner.engine.prefill import (
    UNLIMITED,
    Even,
    Mix,
    PromptSchedule,
    added,
    prompt_schedule,
    shared,
)
from planner.engine.roofline import roofline

LINEAR = Calibration(
    iteration_s=0.01, sequence_s=1e-4, context_s=1e-7, prompt_s=2e-5, square_s=1e-9, request_s=1e-3
)
ROOFLINE = roofline(catalogue.gpus()["H100"], catalogue.models()["Llama-3-8B"], ENGINES["vllm-v1"])
SCHEDULES: tuple[Schedule, ...] = ("mixed", "prefill-first", "whole-prompts", "alternating")


def test_without_a_corner_a_mixed_prompt_adds_its_own_tokens():
    """Whoever shares its iteration: a linear engine takes for each prompt what its tokens take."""
    for batch in (1.0, 8.0, 64.0):
        mix = Mix(batch=batch, inputs=1000.0, outputs=100.0)
        prompt = added(LINEAR, UNLIMITED, mix)
        assert prompt.seconds == pytest.approx(1e-3 + 0.02 + 1e-3)


def test_prompts_in_iterations_of_their_own_pay_for_these():
    """Alone with its prompt, an iteration costs its fixed time too."""
    prompts = PromptSchedule(schedule="whole-prompts")
    one = added(LINEAR, prompts, Mix(batch=1.0, inputs=1000.0, outputs=1e6))

    assert one.seconds == pytest.approx(LINEAR.prefill_s(1000.0), rel=1e-3)
    assert one.together == pytest.approx(1.0, abs=1e-3)


def test_a_prompt_beyond_the_budget_takes_as_many_iterations_as_it_needs():
    """On average over prompts of about its size; a short one takes one."""
    prompts = PromptSchedule(budget=512.0)
    each = [
        float(shared(Even(), prompts, Mix(batch=1.0, inputs=inputs, outputs=1e6)).each)
        for inputs in (50.0, 300.0, 1250.0, 5000.0)
    ]

    assert each[:2] == pytest.approx([1.0, 1.0], abs=0.01)
    assert each[2] == pytest.approx(3.0, abs=0.2)
    assert each[3] == pytest.approx(5000 / 511 + 0.5, abs=0.2)


def test_more_prompts_come_together_where_iterations_with_prompts_are_long():
    """In a longer iteration more of them come, and share the next one."""
    long = Calibration(
        iteration_s=0.01, sequence_s=0.0, context_s=0.0, prompt_s=1e-4, square_s=0.0, request_s=0.0
    )
    mix = Mix(batch=80.0, inputs=400.0, outputs=100.0)

    even, gathered = (float(shared(t, UNLIMITED, mix).together) for t in (Even(), long))

    assert even == pytest.approx(0.8 / (1 - np.exp(-0.8)), rel=1e-6)
    assert gathered > 1.2 * even


def test_prompts_that_come_together_do_not_delay_each_others_answers():
    """An engine that lets prompts wait for company has more of them together than any other."""
    mix = Mix(batch=60.0, inputs=200.0, outputs=100.0)
    together = {
        schedule: float(
            added(ROOFLINE, PromptSchedule(schedule=schedule, budget=8192.0), mix).together
        )
        for schedule in SCHEDULES
    }

    assert together["alternating"] == max(together.values()) > 5
    assert min(together.values()) >= 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_prompts_take_of_the_backend_rises_with_the_load(schedule: Schedule):
    """The time of one token by Little's law, for any size: so n* can be found by bisection."""
    prompts = PromptSchedule(schedule=schedule, budget=2048.0)
    batches = np.linspace(1, 1000, 200)
    for inputs, outputs in ((20.0, 300.0), (512.0, 16.0), (4000.0, 64.0)):
        prompt = added(ROOFLINE, prompts, Mix(batch=batches, inputs=inputs, outputs=outputs))
        token_s = (
            ROOFLINE.decode_s(batches, inputs + outputs / 2) + batches / outputs * prompt.seconds
        )
        assert np.all(np.diff(np.asarray(token_s)) > -1e-9)


def test_whole_prompts_need_a_budget_for_the_longest():
    """Engines that do not cut them refuse to start with less; V1 with less than its sequences."""
    assert prompt_schedule("whole-prompts", 2048, 256, 8192).budget == 8192
    assert prompt_schedule("mixed", 512, 1024, 8192).budget == 1024
    assert prompt_schedule("mixed", 2048, 256, 8192).budget == 2048
