"""Collapsed stacks into stages: which module's own code the time went to, and which functions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FUNCTIONS = 3  # shown of a stage
LEAST = 0.02  # share below which a module goes into OTHERS, and a function is not shown
OTHERS = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStage:
    """One module. share: of all samples. us: of CPU per unit. functions: (name, share of all)."""

    name: str
    share: float
    us: float
    functions: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackProfile:
    """Where the time of one scenario went, by our own clock and by the kernel's.

    samples: behind the shares, whose error is about sqrt(share / samples). cpu_us: per unit while
    sampled. kernel: share of it inside the kernel, as accounted by the kernel.
    """

    unit: str
    samples: int
    cpu_us: float
    kernel: float
    stages: tuple[StackStage, ...]


def read_stacks(path: Path) -> Counter[str]:
    """Samples by stack. Raises ValueError where a line does not end in a count."""
    counts: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        counts[stack] += int(count)
    return counts


def divide(counts: Counter[str], cpu_us: float) -> tuple[StackStage, ...]:
    """Stages by the innermost function of each stack, the largest first, small ones in OTHERS.

    cpu_us: CPU per unit, measured over the same time; it is what the shares are shares of.
    """
    total = counts.total()
    modules: dict[str, Counter[str]] = {}
    for stack, count in counts.items():
        module, _, function = stack.rpartition(";")[2].partition(":")
        modules.setdefault(module, Counter())[function] += count
    large = {name: own for name, own in modules.items() if own.total() >= LEAST * total}
    stages = [
        StackStage(
            name=module,
            share=own.total() / total,
            us=cpu_us * own.total() / total,
            functions=_largest(own, total),
        )
        for module, own in large.items()
    ]
    rest = 1.0 - sum(stage.share for stage in stages)
    if len(large) < len(modules):
        stages.append(StackStage(name=OTHERS, share=rest, us=cpu_us * rest, functions=()))
    return tuple(sorted(stages, key=lambda stage: -stage.share))


def _largest(own: Counter[str], total: int) -> tuple[tuple[str, float], ...]:
    shares: Sequence[tuple[str, float]] = [(n, c / total) for n, c in own.most_common(FUNCTIONS)]
    return tuple((name, share) for name, share in shares if share >= LEAST)
