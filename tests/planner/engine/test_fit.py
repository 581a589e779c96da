"""Points and the linear engine model fitted to them."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine import catalogue
from planner.engine.calibration import Calibration, Curve
from planner.engine.fit import CURVED, fit, fit_alone, prior, shortage
from planner.engine.hardware import ENGINES, Schedule
from planner.engine.points import Point
from planner.engine.prefill import UNLIMITED, Mix, PromptSchedule, added
from planner.engine.roofline import Roofline, roofline
from planner.errors import InvalidValue

ROOFLINE = roofline(catalogue.gpus()["H100"], catalogue.models()["Llama-3-8B"], ENGINES["vllm-v1"])
SIZES = [(128, 128), (512, 64), (1000, 250), (3000, 100), (200, 800)]


def paced(
    truth: Calibration | Roofline,
    inputs: float,
    outputs: float,
    batch: float,
    prompts: PromptSchedule = UNLIMITED,
) -> float:
    """TPOT with so many requests in the engine."""
    prompt = added(truth, prompts, Mix(batch=batch, inputs=inputs, outputs=outputs))
    delaying = max(batch - float(prompt.together), 0.0)
    decode_s = float(truth.decode_s(batch, inputs + outputs / 2))
    return decode_s + delaying / outputs * float(prompt.seconds)


def served(
    truth: Calibration | Roofline,
    inputs: float,
    outputs: float,
    batch: float,
    prompts: PromptSchedule = UNLIMITED,
) -> Point:
    """What a benchmark of an engine that is exactly `truth` would report at a steady load."""
    tpot_s = paced(truth, inputs, outputs, batch, prompts)
    prompt = added(truth, prompts, Mix(batch=batch, inputs=inputs, outputs=outputs))
    stay_s = outputs * tpot_s + float(prompt.seconds * prompt.together)
    parts = max(1.0, math.ceil(inputs / prompts.budget))
    ttft_s = parts * float(truth.prefill_s(inputs / parts))
    return Point(
        input_tokens=inputs,
        output_tokens=outputs,
        rate=batch / stay_s,
        tpot_s=tpot_s,
        ttft_s=ttft_s,
    )


def test_the_prior_follows_the_roofline():
    """Before any measurement the linear model is within a fifth of the roofline's decode times."""
    found = prior(ROOFLINE)

    for batch in (1.0, 8.0, 64.0, 200.0):
        expected = ROOFLINE.decode_s(batch, 800.0)
        assert found.decode_s(batch, 800.0) == pytest.approx(expected, rel=0.2)
    alone_s = ROOFLINE.prefill_s(2000.0) + ROOFLINE.request_s
    assert found.prefill_s(2000.0) == pytest.approx(alone_s, rel=0.2)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(0.75, 1.5)] * 6), st.floats(0.5, 3.0))
def test_the_fit_finds_an_engine_that_is_linear(shape: tuple[float, ...], scale: float):
    """Points of an engine whose constants are off by scale and shape are met within 5 %."""
    names = ("iteration_s", "sequence_s", "context_s", "prompt_s", "square_s", "request_s")
    start = prior(ROOFLINE)
    truth = replace(
        start,
        **{name: getattr(start, name) * k * scale for name, k in zip(names, shape, strict=True)},
    )
    points = [served(truth, i, o, batch) for i, o in SIZES for batch in (1, 4, 16, 64)]

    found = fit(points, ROOFLINE)

    assert found.n == 25  # 20 TPOT, and TTFT where nobody queued: one batch of four
    assert found.error < 0.03
    assert found.largest == pytest.approx(64, rel=0.05)
    for inputs, outputs, batch in ((300.0, 300.0, 32.0), (2000.0, 200.0, 10.0)):
        expected = paced(truth, inputs, outputs, batch)
        assert paced(found, inputs, outputs, batch) == pytest.approx(expected, rel=0.05)


def test_few_points_move_no_constant_far_beyond_the_common_scale():
    """One point scales the model as a whole; what it says nothing about keeps its proportion."""
    start = prior(ROOFLINE)
    slow = replace(start, iteration_s=start.iteration_s * 3, sequence_s=start.sequence_s * 3,
                   context_s=start.context_s * 3)  # fmt: skip
    point = Point(
        input_tokens=500, output_tokens=200, batch=16, tpot_s=float(slow.decode_s(16, 600))
    )

    found = fit([point], ROOFLINE)

    assert found.decode_s(16, 600) == pytest.approx(point.tpot_s, rel=0.01)
    assert np.allclose(found.constants[:3] / start.constants[:3], 3, rtol=0.1)


def test_a_static_batch_has_no_prompts_in_between():
    """With a batch and no rate, TPOT is decode alone and TTFT the prefill of all its prompts."""
    start = prior(ROOFLINE)
    points = [
        Point(input_tokens=i, output_tokens=128, batch=batch,
              tpot_s=float(start.decode_s(batch, i + 64)),
              ttft_s=float(start.iteration_s + batch * (start.prefill_s(i) - start.iteration_s)))
        for i in (128, 512, 2048) for batch in (1, 8, 32)
    ]  # fmt: skip

    found = fit(points, ROOFLINE)

    assert found.n == 18
    assert np.allclose(found.constants, start.constants, rtol=0.01)


def test_the_time_in_a_queue_is_not_taken_for_prefill():
    """TTFT under load contains waiting: it does not reach the prefill constants."""
    start = prior(ROOFLINE)
    busy = [replace_ttft(served(start, i, o, 32), 30.0) for i, o in SIZES]

    assert fit(busy, ROOFLINE).prompt_s == pytest.approx(start.prompt_s, rel=0.05)


def replace_ttft(point: Point, ttft_s: float) -> Point:
    return Point(
        input_tokens=point.input_tokens, output_tokens=point.output_tokens, rate=point.rate,
        tpot_s=point.tpot_s, ttft_s=ttft_s,
    )  # fmt: skip


def with_noise(point: Point, noise: float) -> Point:
    assert point.tpot_s is not None
    assert point.ttft_s is not None
    return msgspec.structs.replace(point, tpot_s=point.tpot_s * noise, ttft_s=point.ttft_s * noise)


SPREAD = [(128, 256), (1024, 128), (4000, 256)]


def test_enough_points_need_no_prior():
    """Three sizes with three loads each give back a linear engine, with no roofline beside them."""
    truth = replace(prior(ROOFLINE), sequence_s=3e-4, request_s=0.004)
    points = [served(truth, i, o, batch) for i, o in SPREAD for batch in (1, 8, 48)]

    found = fit_alone(points)

    assert found.n == 12
    assert found.largest == pytest.approx(48, rel=0.05)
    assert np.allclose(found.constants, truth.constants, rtol=1e-3)


def test_points_alone_hold_between_them_under_noise():
    """With 5 % noise on every value of a curved engine: within 15 % anywhere between the points."""
    random = np.random.default_rng(7)
    points = [
        with_noise(served(ROOFLINE, i, o, batch), float(np.exp(random.normal(0, 0.05))))
        for i, o in SPREAD
        for batch in (1, 8, 24, 64)
    ]

    found = fit_alone(points)

    assert found.error < 0.05
    for inputs, outputs, batch in ((300, 200, 4), (1000, 200, 30), (3000, 140, 16), (500, 250, 60)):
        expected = paced(ROOFLINE, inputs, outputs, batch)
        assert paced(found, inputs, outputs, batch) == pytest.approx(expected, rel=0.15)


def test_many_points_find_the_corner():
    """An engine whose decode hides behind the weights up to some batch: met between the points, by
    the roofline of another GPU as the prior too; the same engine without a corner is missed."""
    truth = replace(prior(ROOFLINE), iteration_s=0.002, weights_s=0.03, curve=Curve(knee=90.0))
    points = [
        served(truth, i, o, batch)
        for i, o in [(128, 64), (512, 512), (1500, 200), (4000, 128)]
        for batch in (1, 8, 24, 64, 160)
    ]

    found, alone = fit(points, ROOFLINE), fit_alone(points)

    assert found == alone
    assert found.n >= CURVED
    for inputs, outputs, batch in ((300.0, 300.0, 100.0), (2000.0, 100.0, 12.0)):
        expected = paced(truth, inputs, outputs, batch)
        assert paced(found, inputs, outputs, batch) == pytest.approx(expected, rel=0.02)
    few = fit_alone(points[:15])
    assert few.weights_s == 0
    assert few.error > 3 * found.error


@pytest.mark.parametrize(
    ("sizes", "loads", "words"),
    [
        (SPREAD, (1, 8), "at least 12 values to fit, two per constant: there are 9"),
        ([(512, 128)], (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96), "points that differ more"),
        ([(256, 256), (2000, 128)], (1, 4, 8, 16, 32, 64), "three prompt sizes"),
        ([(500, 120), (520, 128), (540, 140)], (1, 8, 24, 64), "points that differ more"),
        (SPREAD, (4, 8, 24, 64), "a ttft_s at fewer than two requests in flight"),
    ],
    ids=["few", "one size", "two sizes", "near sizes", "no TTFT without a queue"],
)
def test_too_few_points_say_what_they_lack(
    sizes: list[tuple[int, int]], loads: tuple[int, ...], words: str
):
    """A number of values, or sizes and loads that differ; the fit refuses them with the same."""
    points = [served(prior(ROOFLINE), i, o, batch) for i, o in sizes for batch in loads]

    assert words in (shortage(points) or "")
    with pytest.raises(InvalidValue, match="without a prior"):
        fit_alone(points)


def test_nothing_to_fit_is_said():
    """Points that say nothing about times are an error."""
    with pytest.raises(InvalidValue, match="nothing to fit"):
        fit([Point(input_tokens=100, output_tokens=1, rate=1.0, tpot_s=0.1)], ROOFLINE)


@pytest.mark.parametrize("schedule", ["mixed", "prefill-first", "whole-prompts", "alternating"])
def test_an_engine_is_found_through_its_schedule(schedule: Schedule):
    """With a small budget prompts share iterations, or take several: loads between those that were
    measured are met, within 5 %."""
    prompts = PromptSchedule(schedule=schedule, budget=700.0)
    truth = replace(prior(ROOFLINE), iteration_s=0.004, weights_s=0.012, curve=Curve(knee=128.0))
    points = [
        served(truth, i, o, batch, prompts)
        for i, o in [(128, 64), (512, 256), (1500, 200), (4000, 128)]
        for batch in (1, 6, 20, 50, 110)
    ]

    found = fit_alone(points, prompts)

    assert found.n >= CURVED

    for inputs, outputs, batch in ((300.0, 300.0, 40.0), (2000.0, 100.0, 12.0)):
        expected = paced(truth, inputs, outputs, batch, prompts)
        assert paced(found, inputs, outputs, batch, prompts) == pytest.approx(expected, rel=0.05)
    # What an empty iteration takes: which part of it is reading the weights says the corner alone.
    empty_s = truth.iteration_s + truth.weights_s
    assert found.iteration_s + found.weights_s == pytest.approx(empty_s, rel=0.05)
