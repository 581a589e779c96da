"""Reads a page of metrics in Prometheus' text format. Pure."""

import re
from collections.abc import Iterator, Mapping

LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

Labels = Mapping[str, str]


class Samples:
    """The samples of one page, by the names of their metrics."""

    def __init__(self, page: str) -> None:
        self._found: dict[str, list[tuple[Labels, float]]] = {}
        for line in page.splitlines():
            if line and not line.startswith("#"):
                self._take(line)

    def __repr__(self) -> str:
        return f"<Samples of {len(self._found)} metrics>"

    def of(self, name: str, **labels: str) -> Iterator[tuple[Labels, float]]:
        """The samples of a metric that have these labels."""
        for own, value in self._found.get(name, ()):
            if labels.items() <= own.items():
                yield own, value

    def total(self, name: str, **labels: str) -> float:
        """The sum of these samples; 0 without any."""
        return sum(value for _, value in self.of(name, **labels))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The sums of these samples by one of their labels."""
        sums: dict[str, float] = {}
        for own, value in self.of(name, **labels):
            sums[own.get(label, "")] = sums.get(own.get(label, ""), 0.0) + value
        return sums

    def value(self, name: str, **labels: str) -> float | None:
        """The first of these samples; `None` without any."""
        return next((value for _, value in self.of(name, **labels)), None)

    def quantile(self, share: float, name: str) -> float | None:
        """Upper edge of the bucket of a histogram in which a quantile is, over all its labels;
        `None` without observations."""
        edges = self.by("le", f"{name}_bucket")
        counts = sorted((float(edge), count) for edge, count in edges.items())
        if not counts or counts[-1][1] == 0:
            return None
        return next(edge for edge, count in counts if count >= share * counts[-1][1])

    def _take(self, line: str) -> None:
        head, brace, rest = line.partition("{")
        if brace:
            labels, _, number = rest.rpartition("}")
            found = {name: _plain(value) for name, value in LABEL.findall(labels)}
        else:
            head, _, number = line.partition(" ")
            found = {}
        try:
            value = float(number.split()[0])  # a time may follow
        except (ValueError, IndexError):
            return
        self._found.setdefault(head, []).append((found, value))


def _plain(value: str) -> str:
    return re.sub(r"\\[\\n\"]", lambda match: ESCAPED[match[0]], value)
