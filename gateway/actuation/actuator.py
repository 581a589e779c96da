"""Where the wished number of a pool's backends goes: the face of every actuator. Knows no plan."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleOrder:
    """One wish for one pool.

    key: the same for every try of the same wish, so that it is carried out once. pool: its name.
    backends: that it is to have. running: that it has. why: one line for people. leaving: base URLs
    that should go first where it shrinks; they get no new requests any more.
    """

    key: str
    pool: str
    backends: int
    running: int
    why: str
    leaving: tuple[str, ...] = ()


class ActuationError(Exception):
    """A wish was refused, or could not be brought: one line why. final: another try of the same
    wish is of no use (stock, quota, rights)."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class Actuator(Protocol):
    """Brings wishes for pools to what starts and stops their replicas."""

    @property
    def name(self) -> str:
        """For people: `webhook https://…`, `deployment ns/name`, `command launch.sh`."""

    async def apply(self, order: ScaleOrder) -> None:
        """Bring a wish; returns when it was accepted, which is long before backends are ready.
        Tries again itself where that helps, within a bounded time. Raises ActuationError."""

    async def aclose(self) -> None:
        """Free what it holds; a process that it started is ended."""
