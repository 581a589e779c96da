"""How well output lengths are foreseen on a trace: the gateway's predictor, one request at a time.

Prequential: every request is predicted from those before it, then learned. Beside it stands the
predictor that other gateways use, a random draw from what requests of the same log₂ input got
(AIBrix's), and the mean and the median of that history. What the errors cost is told by playing the
trace twice through one plan's router, with true lengths and with learned ones.
"""

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway.certification import certified
from gateway.config import Loaded
from gateway.history import Source, demand_of
from gateway.rehearsal import rehearse
from gateway.routing.lengths import Lengths
from gateway.serve_command import configured
from planner import arrivals, solve, workload
from planner.errors import InvalidValue, PlannerError
from planner.model import Plan, Pool
from planner.sizes import FloatArray
from planner.workload import Trace

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
    lengths = Lengths()
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
    slo = plan.space.classes[0].slo
    return Cost(
        plan=plan,
        requests=len(trace),
        truth=rehearse(trace, plan, pools, believed=sizes).attainment(slo),
        learned=rehearse(trace, plan, pools).attainment(slo),
    )


def planned(trace: Trace, loaded: Loaded, *, refined: bool) -> Plan:
    """The plan for a trace: the program's own, or the cheapest that is certified."""
    model = loaded.space.classes[0].model
    if refined:
        return certified(loaded, (Source(trace=trace, model=model),), process="own").refined.plan
    demand = demand_of(trace, loaded, lengths=Lengths(), model=model)
    return solve.provision(demand, loaded.pools, loaded.limits)


@click.command()
@click.option(
    "--trace",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="Trace CSV; its key column says who sent a request.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Also plan for the trace with this configuration (its first model), and compare the "
    "attainment with true and with learned lengths.",
)
@click.option(
    "--rate",
    type=float,
    help="With --config: requests/s of shifted copies of the trace; default: the trace as it is.",
)
@click.option(
    "--refined",
    is_flag=True,
    help="With --config: on the cheapest certified plan, which has less to spare (minutes).",
)
@click.option("--no-keys", is_flag=True, help="Hide the keys: as if everybody shared one.")
@click.option("--seed", default=0, show_default=True, help="Of the random draws.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def foresight(
    path: Path,
    config: Path | None,
    rate: float | None,
    refined: bool,
    no_keys: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure how well output lengths are predicted on a trace, and what the errors cost.

    Every request is predicted from those before it. An error of the length is an error of the load
    that a request is believed to bring; the 90th percentile decides where it may spill to. With
    --config the whole trace is played twice through the router of one plan for it: with true
    lengths and with learned ones.
    """
    loaded = None if config is None else configured(config)
    rng = np.random.default_rng(seed)
    try:
        trace = workload.read(path)
        found = foresee(trace, rng=rng, keys=not no_keys)
        lost = None
        if loaded is not None:
            trace = trace if rate is None else arrivals.at_rate(trace, rate, rng)
            trace = replace(trace, key=("",) * len(trace)) if no_keys else trace
            lost = cost(trace, planned(trace, loaded, refined=refined), loaded.pools)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(found, lost), indent=1))
    else:
        show(found, lost, Console())


def as_values(found: Sequence[Accuracy], lost: Cost | None) -> dict[str, Any]:
    """The outcome as plain JSON values."""
    body: dict[str, Any] = {"predictors": [asdict(row) for row in found]}
    if lost is not None:
        body["attainment"] = {
            "backends": dict(zip(lost.plan.pools, lost.plan.backends, strict=True)),
            "usd_per_hour": lost.plan.usd_per_hour,
            "requests": lost.requests,
            "true_lengths": lost.truth,
            "learned_lengths": lost.learned,
            "points_lost": lost.points,
        }
    return body


def show(found: Sequence[Accuracy], lost: Cost | None, console: Console) -> None:
    """The outcome for people."""
    table = Table(title="predicting output tokens", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("predictor")
    for heading in ("MAE", "× random", "within 2 ×", "bias", "P90 covers"):
        table.add_column(heading, justify="right")
    for row in found:
        covered = "–" if row.covered is None else f"{row.covered:.1%}"
        table.add_row(
            row.name,
            f"{row.mae:.1f}",
            f"{row.mae / found[1].mae:.2f}",
            f"{row.within_two:.0%}",
            f"{row.bias:.2f}",
            covered,
        )
    console.print(table)
    if lost is not None:
        plan = lost.plan
        fleet = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True) if c)
        console.print(
            f"{lost.requests} requests on {fleet} (${plan.usd_per_hour:.2f}/h): attainment "
            f"{lost.truth:.2%} with true lengths, {lost.learned:.2%} with learned ones: "
            f"{lost.points:+.2f} points lost"
        )
