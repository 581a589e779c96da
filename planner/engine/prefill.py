"""What prompts add to the answers beside them, by the engine's schedule.

Owns the formula for any model of how long an iteration takes; `batching` plays the same schedules
iteration by iteration. Must not know SLOs, nor what the constants of a model are.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from planner.engine.hardware import PATIENCE, WORTHWHILE, Schedule
from planner.engine.roofline import Number

TURNS = 2  # until the share of iterations with prompts moves by less than a fiftieth
HALF_FULL = 0.5  # of an iteration that the last of several prompts do not fill
VARIED = 0.25  # by how much prompts of one size are shorter and longer
SATURATED = 50.0  # prompts that come in one iteration: e⁵⁰ to 1 that the next one has some
TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSchedule:
    """How prompts get into iterations: the schedule, and the tokens that one iteration can take."""

    schedule: Schedule = "mixed"
    budget: float = math.inf

    @property
    def cuts(self) -> bool:
        """Whether a prompt that exceeds the budget is taken in parts."""
        return self.schedule in ("mixed", "prefill-first")


UNLIMITED = PromptSchedule()


def prompt_schedule(
    schedule: Schedule, max_num_batched_tokens: int, max_num_seqs: int, max_model_len: int
) -> PromptSchedule:
    """That of an engine with these limits. One that does not cut prompts refuses to start with a
    budget below its longest prompt; vLLM V1 with fewer tokens than one for each sequence."""
    least = max(max_num_batched_tokens, max_num_seqs)
    cuts = PromptSchedule(schedule=schedule).cuts
    return PromptSchedule(
        schedule=schedule, budget=float(least if cuts else max(least, max_model_len))
    )


class Iterations(Protocol):
    """A model of how long iterations take; arguments as of `Roofline.step_s`.

    The formula is linear in these seconds. So a model may also answer with arrays of more
    dimensions in front, such as the features whose constants are still to be fitted.
    """

    def step_s(
        self,
        tokens: Number,
        sequences: Number,
        context_tokens: Number = 0.0,
        prompt_squares: Number = 0.0,
        *,
        prefill: bool,
    ) -> Number: ...

    @property
    def request_s(self) -> Number: ...


def decode_s(times: Iterations, batch: Number, context: Number) -> Number:
    """Seconds of an iteration in which `batch` sequences of mean `context` decode."""
    return times.step_s(batch, batch, batch * context, prefill=False)


class Even:
    """All iterations take one second: who shares one does not depend on how long it takes."""

    def step_s(
        self,
        tokens: Number,
        sequences: Number,
        context_tokens: Number = 0.0,
        prompt_squares: Number = 0.0,
        *,
        prefill: bool,
    ) -> Number:
        return np.ones(np.broadcast(tokens, sequences).shape)

    @property
    def request_s(self) -> Number:
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Requests of one size at a steady load. batch: how many are in flight. cached: of the inputs,
    those that are not computed, though attention reads them. All broadcast."""

    batch: Number
    inputs: Number
    outputs: Number
    cached: Number = 0.0


class Sharing(NamedTuple):
    """How prompts share iterations. together: prompts that come together, on average, where any
    does. Of one that comes alone, and of the several that come together otherwise: how often that
    is, how many prompts, and how many iterations they take."""

    together: Number
    alone: Number
    alone_iterations: Number
    several: Number
    several_iterations: Number

    @property
    def each(self) -> Number:
        """How many iterations one prompt takes: a part of one where several share it."""
        several = (1 - self.alone) * self.several_iterations
        return (self.alone * self.alone_iterations + several) / self.together


class Added(NamedTuple):
    """seconds: that each prompt adds to the answers beside it. together: prompts, itself included,
    that get their first token in one iteration with it, and so do not delay its answer."""

    seconds: Number
    together: Number


def added(
    times: Iterations, prompts: PromptSchedule, mix: Mix, *, sharing: Sharing | None = None
) -> Added:
    """What each prompt adds to the answers beside it. sharing: where it is known.

    A mixed iteration costs what it takes longer than without prompts; the others let all answers
    wait. Of a mixed budget that is used up, requests in flight beyond it wait for prefill.
    """
    if sharing is None:
        sharing = shared(times, prompts, mix)
    each_s = _each_s(times, prompts, mix, sharing)
    together = np.maximum(1 / sharing.each, 1.0)
    if prompts.schedule != "mixed":
        return Added(each_s + times.request_s, together)
    asked, (batch, _) = np.maximum(mix.batch, 1.0), _going(prompts, mix)
    mean = mix.inputs + mix.outputs / 2
    going_s = decode_s(times, batch, mean)
    waits_s = mix.outputs * (going_s / batch - decode_s(times, asked, mean) / asked)
    return Added(each_s - sharing.each * going_s + waits_s + times.request_s, together)


def _each_s(times: Iterations, prompts: PromptSchedule, mix: Mix, sharing: Sharing) -> Number:
    """Seconds of iterations with prompts, for each of these. An iteration takes longer than in
    proportion to its tokens, so one prompt and several are two cases."""
    computed, squares = mix.inputs - mix.cached, mix.inputs**2 - np.square(mix.cached)
    beside = _going(prompts, mix)[0] if prompts.schedule == "mixed" else 0.0
    context = beside * (mix.inputs + mix.outputs / 2)

    def seconds(count: Number, parts: Number) -> Number:
        each = count / parts
        tokens = beside + each * computed
        return parts * times.step_s(tokens, beside, context, each * squares, prefill=True)

    alone_s = sharing.alone * seconds(1.0, sharing.alone_iterations)
    several_s = (1 - sharing.alone) * seconds(sharing.several, sharing.several_iterations)
    return (alone_s + several_s) / sharing.together


def _going(prompts: PromptSchedule, mix: Mix) -> tuple[Number, Number]:
    """How many answers go on, and the tokens of an iteration that are left for prompts. A mixed
    budget is used up when `budget·outputs/(inputs + outputs)` answers go on."""
    asked = np.maximum(mix.batch, 1.0)
    if prompts.schedule != "mixed":
        return asked, prompts.budget
    each = (mix.inputs - mix.cached + mix.outputs) / mix.outputs
    going = np.minimum(asked, np.maximum(prompts.budget / each, 1.0))
    return going, prompts.budget - going


def shared(times: Iterations, prompts: PromptSchedule, mix: Mix) -> Sharing:
    """How prompts share iterations at a steady load.

    An iteration of answers ends `batch/outputs` of them on average, and as many prompts come: at
    random in time, so that in a longer iteration more of them come and share the next one. With X
    prompts/s, iterations of D seconds without and of M with prompts, an iteration has prompts with
    probability `1 − e^(−X·M)` after one with prompts, and `1 − e^(−X·D)` after one without. Of this
    Markov chain at rest, the share of iterations with prompts is f; X follows from f, and f from X,
    in turns. An alternating engine makes prompts wait instead.
    """
    batch, room = _going(prompts, mix)
    arrivals, one = batch / mix.outputs, (mix.inputs - mix.cached) / room
    together = arrivals / -np.expm1(-arrivals)
    if prompts.schedule == "alternating":
        waiting = np.minimum(PATIENCE * arrivals, WORTHWHILE * batch)
        return _sharing(np.maximum(together, waiting), one)
    sharing, mixes = _sharing(together, one), prompts.schedule == "mixed"
    without_s = decode_s(times, batch, mix.inputs + mix.outputs / 2)
    for _ in range(TURNS):
        with_s = _each_s(times, prompts, mix, sharing) / sharing.each
        often = arrivals * sharing.each
        seconds = without_s + often * with_s
        if mixes:
            often = np.minimum(often, 1.0)
            seconds = without_s + often * (with_s - without_s)
        rate = arrivals / seconds
        longer_s = with_s + times.request_s / sharing.each
        # Iterations with prompts for each one without: f/(1 − f).
        odds = -np.expm1(-rate * without_s) * np.exp(np.minimum(rate * longer_s, SATURATED))
        found = np.maximum(arrivals * (1 + odds if mixes else 1.0) / odds, 1.0)
        together = np.sqrt(together * found)  # the turns swing around where they end
        sharing = _sharing(together, one)
    return sharing


def _sharing(together: Number, one: Number) -> Sharing:
    """That of so many prompts, of which each fills the part `one` of an iteration, give or take a
    quarter. The last iteration of several is half full."""
    together = np.maximum(together, 1.0)
    alone = np.exp(1 - together)  # near the probability that a Poisson number above 0 is 1
    several = np.maximum((together - alone) / np.maximum(1 - alone, TINY), 1.0)
    low, high = (1 - VARIED) * one, (1 + VARIED) * one
    single = (_ceiled(high) - _ceiled(low)) / np.maximum(high - low, TINY)
    return Sharing(
        together=together,
        alone=alone,
        alone_iterations=np.maximum(single, 1.0),
        several=several,
        several_iterations=np.maximum(several * one + HALF_FULL, 1.0),
    )


def _ceiled(upper: Number) -> Number:
    """`∫ ⌈x⌉ dx` from 0 to the upper limit."""
    steps = np.ceil(upper)
    area: Number = steps * upper - steps * (steps - 1) / 2
    return area
