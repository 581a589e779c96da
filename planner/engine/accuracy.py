"""How far the engine model is from measured runs: the errors of every row, and their summary.

Owns what an error is (predicted/measured − 1) and how errors are gathered: medians and 90th
percentiles of their sizes by GPU, model and metric.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from planner.engine import playback
from planner.engine.runs import Run
from planner.engine.validation import spread
from planner.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class RunError:
    """One metric of one run, in seconds. saturated: whether the model's queue grew without end."""

    run: Run
    metric: str
    predicted_s: float
    measured_s: float
    saturated: bool

    @property
    def error(self) -> float:
        """Relative error; positive where the model is slower than the engine."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The errors of n rows. model, engine: `None` for all of them together. median, p90: of
    |error|. bias: median of predicted/measured."""

    gpu: str
    engine: str | None
    model: str | None
    metric: str
    n: int
    median: float
    p90: float
    bias: float


Group = tuple[str, str | None, str | None, str]
GroupOf = Callable[[RunError], Group]


def judge(
    runs: Iterable[Run], cached_share: float | None = None
) -> tuple[list[RunError], list[tuple[Run, str]]]:
    """Play every run; return the errors, and the runs that cannot be played with the reason.

    cached_share: of the prompts of serving runs, instead of the format's own.
    """
    errors: list[RunError] = []
    left: list[tuple[Run, str]] = []
    for run in runs:
        if cached_share is not None and not run.users:
            run = replace(run, cached_share=cached_share)
        try:
            played = playback.play(run)
        except InvalidValue as error:
            left.append((run, str(error)))
            continue
        errors += [
            RunError(
                run=run,
                metric=metric,
                predicted_s=predicted_s,
                measured_s=run.measured_s[metric],
                saturated=played.saturated,
            )
            for metric, predicted_s in played.predicted_s.items()
        ]
    return errors, left


def by_model(errors: Iterable[RunError]) -> list[Summary]:
    """The errors by GPU, engine, model and metric."""
    return _summaries(errors, lambda e: (e.run.gpu, e.run.engine, e.run.model, e.metric))


def by_gpu(errors: Iterable[RunError]) -> list[Summary]:
    """The errors by GPU and metric."""
    return _summaries(errors, lambda e: (e.run.gpu, None, None, e.metric))


def _summaries(errors: Iterable[RunError], group_of: GroupOf) -> list[Summary]:
    groups: dict[Group, list[float]] = {}
    for error in errors:
        groups.setdefault(group_of(error), []).append(error.error)
    ordered = sorted(groups.items(), key=lambda item: tuple(part or "" for part in item[0]))
    return [_summary(group, values) for group, values in ordered]


def _summary(group: Group, values: Sequence[float]) -> Summary:
    gpu, engine, model, metric = group
    median, p90, bias = spread([1 + value for value in values])
    return Summary(
        gpu=gpu,
        engine=engine,
        model=model,
        metric=metric,
        n=len(values),
        median=median,
        p90=p90,
        bias=bias,
    )
