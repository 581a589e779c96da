"""What one metric is: name, type, labels and meaning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MetricType = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. name: as scraped, with its prefix. labels: of every sample, in order."""

    name: str
    metric_type: MetricType
    help: str
    labels: tuple[str, ...] = ()


def metrics_in(module: Mapping[str, object]) -> tuple[Metric, ...]:
    """The metrics that a module defines, in its order. module: its global names."""
    return tuple(value for value in module.values() if isinstance(value, Metric))
