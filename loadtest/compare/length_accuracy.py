"""How well output lengths are foreseen on a trace: the gateway's predictor, one request at a time.

Prequential: every request is predicted from those before it, then learned. Beside it stands the
predictor that other gateways use, a random draw from what requests of the same log₂ input got
(AIBrix's), and the mean and the median of that history. What the errors cost is told by playing the
trace twice through one plan's router, with true lengths and with learned ones.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

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

WARM = 500  # requests that are learned from but not counted
HISTORY = 2000  # requests that a simple predictor remembers per log₂ input


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How a predictor did. mae: mean absolute error, tokens. within_two: share within a factor of
    two. bias: predicted over actual tokens. covered: share of answers not longer than the predicted
    P90, `None` for predictors without one."""

    name: str
    mae: float
    within_two: float
    bias: float
    covered: float | None = None


def foresee(trace: Trace, *, rng: np.random.Generator, keys: bool = True) -> tuple[Accuracy, ...]:
    """Plays a trace through all predictors. keys: whether the gateway's sees who sent a request."""
    rows = np.array(list(_rows(trace, rng, keys)), dtype=float)
    if len(rows) <= WARM:
        raise InvalidValue(f"a trace of {len(rows)} requests is too short: {WARM} warm up")
    actual, ours, p90, drawn, mean, median = rows[WARM:].T
    own = _accuracy("Cuvée: median by key and size", ours, actual)
    return (
        Accuracy(
            name=own.name,
            mae=own.mae,
            within_two=own.within_two,
            bias=own.bias,
            covered=float((actual <= p90).mean()),
        ),
        _accuracy("random draw by log₂ input", drawn, actual),
        _accuracy("mean by log₂ input", mean, actual),
        _accuracy("median by log₂ input", median, actual),
    )


def _rows(
    trace: Trace, rng: np.random.Generator, keys: bool
) -> Iterator[tuple[float, float, float, float, float, float]]:
    """Per request: actual tokens, and what each predictor had said."""
    lengths = OutputLengths()
    seen: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=HISTORY))
    requests = zip(trace.key, trace.input_tokens, trace.output_tokens, strict=True)
    for key, inputs, outputs in requests:
        who, size, tokens = key if keys else "", int(inputs), max(1, int(outputs))
        said = lengths.predict("", who, "chat", size, None)
        history = seen[size.bit_length()]
        known = np.array(history) if history else np.ones(1)
        drawn = float(known[rng.integers(len(known))])
        yield tokens, said.median, said.p90, drawn, float(known.mean()), float(np.median(known))
        lengths.learn("", who, "chat", size, None, tokens)
        history.append(tokens)


def _accuracy(name: str, predicted: FloatArray, actual: FloatArray) -> Accuracy:
    ratio = np.maximum(predicted / actual, actual / predicted)
    return Accuracy(
        name=name,
        mae=float(np.abs(predicted - actual).mean()),
        within_two=float((ratio <= 2).mean()),
        bias=float(predicted.sum() / actual.sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
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


def cost(trace: Trace, plan: Plan, pools: tuple[Pool, ...]) -> Cost:
    """Plays a trace of the plan's first class with true and with learned lengths."""
    sizes = np.stack([trace.input_tokens, np.maximum(trace.output_tokens, 1.0)], axis=1)
    slo = plan.buckets.classes[0].slo
    return Cost(
        plan=plan,
        requests=len(trace),
        truth=rehearse(trace, plan, pools, believed=sizes).attainment(slo),
        learned=rehearse(trace, plan, pools).attainment(slo),
    )


def planned(trace: Trace, loaded: Loaded, *, refined: bool) -> Plan:
    """The plan for a trace: the program's own, or the cheapest that is certified."""
    model = loaded.buckets.classes[0].model
    if refined:
        return certified(
            loaded, (TraceSource(trace=trace, model=model),), process="own"
        ).refined.plan
    demand = demand_of(trace, loaded, estimator=Estimator(), model=model)
    return solve.provision(demand, loaded.pools, loaded.limits)
