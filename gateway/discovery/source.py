"""What finds backends: the face of every source. Knows no fleet and no configuration."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol


class Found(NamedTuple):
    """What one look of a source has found.

    urls: base URLs by pool, of the pools that the source fills, in a stable order. remarks: what
    was seen and not used, one line each, for the log and `/cuvee/discovery`.
    """

    urls: Mapping[str, tuple[str, ...]]
    remarks: tuple[str, ...] = ()


class Source(Protocol):
    """Looks for the backends of some pools.

    name: `file backends.json`, `dns a100.svc`. pools: those that it fills.
    """

    name: str
    pools: tuple[str, ...]

    async def run(self, found: Callable[[Found], None], failed: Callable[[str], None]) -> None:
        """Look for ever. Calls `found` with what there is at each successful look, also when
        nothing has changed: that is how its age is known. Calls `failed` with one line that says
        why a look failed. Raises nothing but CancelledError."""
