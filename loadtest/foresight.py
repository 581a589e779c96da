"""How well output lengths are foreseen on a trace: the gateway's predictor, one request at a time.

Prequential: every request is predicted from those before it, then learned. Beside it stands the
predictor that other gateways use, a random draw from what requests of the same log₂ input got
(AIBrix's), and the mean and the median of that history. Knows no gateway but its `Lengths`.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway.routing.lengths import Lengths
from planner import workload
from planner.errors import InvalidValue, PlannerError
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


@click.command()
@click.option(
    "--trace",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="Trace CSV; its key column says who sent a request.",
)
@click.option("--no-keys", is_flag=True, help="Hide the keys: as if everybody shared one.")
@click.option("--seed", default=0, show_default=True, help="Of the random draws.")
def foresight(path: Path, no_keys: bool, seed: int) -> None:
    """Measure how well output lengths are predicted on a trace.

    Every request is predicted from those before it. An error of the length is an error of the load
    that a request is believed to bring; the 90th percentile decides where it may spill to.
    """
    try:
        found = foresee(workload.read(path), rng=np.random.default_rng(seed), keys=not no_keys)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
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
    Console().print(table)
