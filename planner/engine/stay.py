"""How long requests stay in an engine beside others, by its profile: TTFT and all tokens after it.

`Profile.tpot_s` is for requests of one size. Measured traffic has many sizes, so here a request is
served beside the mix that it came with. Must not know routers or gateways.
"""

from dataclasses import dataclass

import numpy as np

from planner.engine.capacity import hits
from planner.engine.profiles import Profile
from planner.errors import InvalidValue
from planner.sizes import FloatArray

# An iteration is half over, on average, when a request comes to an engine that is busy.
UNDER_WAY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stays:
    """Requests of one mix, and how many were in flight beside them.

    inputs, outputs: (N,) tokens. cached: (N,) of the inputs, prefix hits. in_flight: (N,) requests
    in the engine while each was there, on average, itself included. weight: (N,) how much each
    counts in the mix. Raises InvalidValue for columns of other lengths, and for none at all.
    """

    inputs: FloatArray
    outputs: FloatArray
    cached: FloatArray
    in_flight: FloatArray
    weight: FloatArray

    def __post_init__(self) -> None:
        columns = (self.inputs, self.outputs, self.cached, self.in_flight, self.weight)
        lengths = {len(column) for column in columns}
        if len(lengths) != 1 or not len(self.weight):
            raise InvalidValue(f"the columns of stays must have one length: {sorted(lengths)}")


def expected_s(profile: Profile, stays: Stays) -> FloatArray:
    """(N,) seconds from the arrival of each request at an engine to its last token.

    In each of its o iterations, B requests of the mix's mean context decode; besides, its own
    prompt and those of others are prefilled, by Little's law B − 1 of them in a mean stay. A prompt
    takes what it adds to an iteration that decodes anyway, and waits where others use up the token
    budget. Proportional to the time of everything that the engine does, so that a measured stay
    divided by this one is how much slower the engine is than its profile, at whatever load. Where
    more are in flight than fit, the others wait: the stay is longer in proportion.
    """
    outputs = np.maximum(stays.outputs, 1.0)
    inputs = np.maximum(stays.inputs, 1.0)
    context = float(np.average(inputs + outputs / 2, weights=stays.weight * outputs))
    limit = max(1.0, min(profile.max_num_seqs, profile.kv_capacity / context))
    batch = np.clip(stays.in_flight, 1.0, limit)
    computed = inputs - hits(inputs, stays.cached)
    chunks = np.ceil(computed / np.maximum(profile.max_num_batched_tokens - batch, 1.0))
    frontend_s, steps = profile.frontend
    # Alone, a request waits for no iteration under way, and its last token for none after it.
    busy = np.minimum(batch - 1, 1.0)
    iterations = outputs - 1 + chunks + busy * (UNDER_WAY + steps)
    mean = float(np.average(iterations, weights=stays.weight))
    arrivals, queue = _queue(profile, computed, batch, mean, stays.weight)
    iterations = iterations + busy * queue
    # Of those in flight some wait for prefill and do not decode.
    tokens = float(np.average(outputs, weights=stays.weight))
    decoding = np.clip(arrivals * tokens, 1.0, batch)
    together = arrivals / -np.expm1(-arrivals)
    own_s = _prompt_s(profile, inputs, computed, chunks, decoding, context, together)
    prompt_s = float(np.average(own_s, weights=stays.weight))
    others_s = (batch - 1) / batch * arrivals * iterations * prompt_s
    engine_s = iterations * profile.times.decode_s(decoding, context) + own_s + others_s
    waits = np.maximum(stays.in_flight / limit, 1.0)
    return np.asarray(waits * engine_s + frontend_s, dtype=float)


def _queue(
    profile: Profile, computed: FloatArray, batch: FloatArray, mean: float, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(N,) prompts that come in an iteration, and (N,) iterations that a prompt waits for those
    before it where they share a token budget.

    mean: iterations of a stay without that wait. By Pollaczek and Khinchine a prompt waits for
    `W = a·E[s²] / 2(1 − a·E[s])` iterations where a of them come in each, of which each takes the
    part s; by Little's law `B = a·(mean + W)`, and both together are a quadratic equation for a.
    Prompts that have iterations of their own do not wait for a budget.
    """
    if profile.schedule != "mixed":
        return batch / mean, np.zeros_like(batch)
    part = computed / max(profile.prompts.budget - float(np.average(batch, weights=weight)), 1.0)
    first, second = (float(np.average(part**k, weights=weight)) for k in (1, 2))
    half = mean + batch * first
    root = np.sqrt(half**2 + 2 * (second - 2 * mean * first) * batch)
    arrivals = 2 * batch / (half + root)
    return arrivals, np.asarray(batch / arrivals - mean)


def _prompt_s(
    profile: Profile,
    inputs: FloatArray,
    computed: FloatArray,
    chunks: FloatArray,
    batch: FloatArray,
    context: float,
    together: FloatArray,
) -> FloatArray:
    """(N,) seconds that a prompt adds to iterations in which `batch` sequences decode anyway.
    computed: its tokens that are no hits, in so many chunks of equal size."""
    times = profile.times
    squares = (inputs**2 - (inputs - computed) ** 2) / chunks
    tokens = batch + together * computed / chunks
    mixed_s = times.step_s(tokens, batch, batch * context, together * squares, prefill=True)
    added_s = chunks / together * (mixed_s - times.decode_s(batch, context))
    return np.asarray(added_s + times.request_s, dtype=float)
