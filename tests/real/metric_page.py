"""A page of Prometheus metrics as names with their types and labels."""

import re
from typing import NamedTuple

SAMPLE = re.compile(r"^([\w:]+)(?:\{(.*)\})? \S+$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Family(NamedTuple):
    """One metric. labels: the names of all labels of its samples, without `le`. values: the values
    of labels that are a choice (`reason` and the like)."""

    kind: str
    labels: tuple[str, ...]
    values: tuple[str, ...]


CHOICES = ("reason", "finished_reason", "source", "sleep_state")


def families(page: str) -> dict[str, Family]:
    """The families of a page by the name in its `# TYPE` line, without what the client library
    adds (`_created`)."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    labels: dict[str, dict[str, None]] = {name: {} for name in kinds}
    values: dict[str, dict[str, None]] = {name: {} for name in kinds}
    for line in page.splitlines():
        if (found := SAMPLE.match(line)) is None:
            continue
        name = owner(found[1], kinds)
        for label, value in LABEL.findall(found[2] or ""):
            if label != "le":
                labels[name][label] = None
            if label in CHOICES:
                values[name][value] = None
    return {
        name: Family(kind, tuple(sorted(labels[name])), tuple(sorted(values[name])))
        for name, kind in kinds.items()
        if not name.endswith("_created")
    }


def owner(sample: str, kinds: dict[str, str]) -> str:
    """The family that a sample belongs to."""
    for end in ("", "_bucket", "_sum", "_count"):
        if sample.removesuffix(end) in kinds:
            return sample.removesuffix(end)
    return sample


def sample(page: str, name: str) -> float | None:
    """The sum of a metric's samples; `None` without any."""
    found = [
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith((f"{name} ", f"{name}{{"))
    ]
    return sum(found) if found else None
