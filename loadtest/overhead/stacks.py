"""Collapsed stacks summed up: which module's own code the CPU time went to, and which functions.

Reads the sampler's files. Knows nothing of how samples are taken.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_FUNCTIONS = 3  # shown of a module
MIN_SHARE = 0.02  # below it a module goes into OTHERS, and a function is not shown
OTHERS = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleShare:
    """One module. share: of all samples. us: CPU per unit. functions: (name, share of all)."""

    name: str
    share: float
    us: float
    functions: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackProfile:
    """Where the CPU time of one scenario went.

    samples: behind the shares, whose error is about sqrt(share / samples). cpu_us: per unit while
    sampled. kernel: share of it inside the kernel, by the kernel's own account.
    """

    unit: str
    samples: int
    cpu_us: float
    kernel: float
    stages: tuple[ModuleShare, ...]


def read_stacks(path: Path) -> Counter[str]:
    """Samples by stack. Raises ValueError where a line does not end in a count."""
    counts: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        counts[stack] += int(count)
    return counts


def share_by_module(counts: Counter[str], cpu_us: float) -> tuple[ModuleShare, ...]:
    """Modules by the innermost function of each stack, largest first, small ones in OTHERS.

    cpu_us: CPU per unit, measured over the same time; shares are shares of it.
    """
    total = counts.total()
    modules: dict[str, Counter[str]] = {}
    for stack, count in counts.items():
        module, _, function = stack.rpartition(";")[2].partition(":")
        modules.setdefault(module, Counter())[function] += count
    large = {name: own for name, own in modules.items() if own.total() >= MIN_SHARE * total}
    shares = [
        ModuleShare(
            name=module,
            share=own.total() / total,
            us=cpu_us * own.total() / total,
            functions=_largest(own, total),
        )
        for module, own in large.items()
    ]
    rest = 1.0 - sum(module.share for module in shares)
    if len(large) < len(modules):
        shares.append(ModuleShare(name=OTHERS, share=rest, us=cpu_us * rest, functions=()))
    return tuple(sorted(shares, key=lambda module: -module.share))


def _largest(own: Counter[str], total: int) -> tuple[tuple[str, float], ...]:
    shares: Sequence[tuple[str, float]] = [
        (name, count / total) for name, count in own.most_common(MAX_FUNCTIONS)
    ]
    return tuple((name, share) for name, share in shares if share >= MIN_SHARE)
