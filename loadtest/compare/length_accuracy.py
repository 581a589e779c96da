"""How well output lengths are predicted on a trace, and what the errors cost in attainment.

Prequential: every request is predicted from those before it, then learned. The gateway's predictor
stands beside the one that AIBrix uses, a random draw from what requests of the same log₂ input got,
and beside the mean and the median of that history. The cost is found by playing the trace twice
through one plan's router, with true lengths and with learned ones. Knows nothing of commands.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.certify import certified
from gateway.rehearsal.history import TraceSource, demand_of
from gateway.rehearsal.play import rehearse
from gateway.routing.estimator import Estimator
from gateway.routing.lengths import OutputLengths
from planner.errors import InvalidValue
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.sizes import FloatArray
from planner.traffic.trace import Trace

WARM_UP = 500  # requests that are learned from but not counted
HISTORY = 2000  # requests that a simple predictor remembers per log₂ input


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How a predictor did.

    mae: mean absolute error, tokens. within_two: share of predictions within a factor of two.
    bias: predicted over actual tokens. covered: share of answers not longer than the predicted P90,
    `None` for predictors without one.
    """

    name: str
    mae: float
    within_two: float
    bias: float
    covered: float | None = None


def measure_accuracy(
    trace: Trace, *, rng: np.random.Generator, keys: bool = True
) -> tuple[Accuracy, ...]:
    """Play a trace through all predictors.

    keys: whether the gateway's predictor sees the sender of a request. Raises InvalidValue for a
    trace that ends within the warm-up.
    """
    rows = np.array(list(_predictions(trace, rng, keys)), dtype=float)
    if len(rows) <= WARM_UP:
        raise InvalidValue(f"a trace of {len(rows)} requests is too short: {WARM_UP} warm up")
    actual, gateway, p90, draw, mean, median = rows[WARM_UP:].T
    own = _accuracy("Cuvée: median by key and size", gateway, actual)
    return (
        replace(own, covered=float((actual <= p90).mean())),
        _accuracy("random draw by log₂ input", draw, actual),
        _accuracy("mean by log₂ input", mean, actual),
        _accuracy("median by log₂ input", median, actual),
    )


def _predictions(
    trace: Trace, rng: np.random.Generator, keys: bool
) -> Iterator[tuple[float, float, float, float, float, float]]:
    """Per request: actual tokens, the gateway's median and P90, the draw, mean and median."""
    lengths = OutputLengths()
    histories: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=HISTORY))
    requests = zip(trace.key, trace.input_tokens, trace.output_tokens, strict=True)
    for key, input_tokens, output_tokens in requests:
        sender, inputs = key if keys else "", int(input_tokens)
        outputs = max(1, int(output_tokens))
        length = lengths.predict("", sender, "chat", inputs, None)
        history = histories[inputs.bit_length()]
        known = np.array(history) if history else np.ones(1)  # AIBrix: one token before any answer
        draw = float(known[rng.integers(len(known))])
        yield (
            outputs,
            length.median,
            length.p90,
            draw,
            float(known.mean()),
            float(np.median(known)),
        )
        lengths.learn("", sender, "chat", inputs, None, outputs)
        history.append(outputs)


def _accuracy(name: str, predicted: FloatArray, actual: FloatArray) -> Accuracy:
    ratio = np.maximum(predicted / actual, actual / predicted)
    return Accuracy(
        name=name,
        mae=float(np.abs(predicted - actual).mean()),
        within_two=float((ratio <= 2).mean()),
        bias=float(predicted.sum() / actual.sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionCost:
    """What wrong lengths cost: a trace played twice through one plan's router.

    truth, learned: attainment where the router knows every answer's length, and where it predicts
    it from those that have ended; without the first tenth of the requests.
    """

    plan: Plan
    requests: int
    truth: float
    learned: float

    @property
    def points(self) -> float:
        """Attainment lost, in points (hundredths)."""
        return 100 * (self.truth - self.learned)


def prediction_cost(trace: Trace, plan: Plan, pools: tuple[Pool, ...]) -> PredictionCost:
    """Play a trace of the plan's first class with true and with learned lengths."""
    sizes = np.stack([trace.input_tokens, np.maximum(trace.output_tokens, 1.0)], axis=1)
    slo = plan.buckets.classes[0].slo
    return PredictionCost(
        plan=plan,
        requests=len(trace),
        truth=rehearse(trace, plan, pools, estimated=sizes).attainment(slo),
        learned=rehearse(trace, plan, pools).attainment(slo),
    )


def plan_trace(trace: Trace, loaded: Loaded, *, refined: bool) -> Plan:
    """A plan for a trace and the first model: the program's own, or the cheapest certified one."""
    model = loaded.buckets.classes[0].model
    if refined:
        return certified(
            loaded, (TraceSource(trace=trace, model=model),), process="own"
        ).refined.plan
    demand = demand_of(trace, loaded, estimator=Estimator(), model=model)
    return solve.provision(demand, loaded.pools, loaded.limits)
