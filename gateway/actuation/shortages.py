"""What could not be had: GPU types of which a launch failed or hangs, and when to try again. Pure.

Nobody tells how many GPUs a cloud has left. After a failure what is there counts as all that there
is; one backend more is allowed from time to time, ever more rarely, and if it comes the limit is
gone. Times are seconds on one monotonic clock.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from planner.model.pool import Pool
from planner.program.limits import Stock

LONGEST_S = 3600.0  # between two tries, however often it failed
Place = tuple[str, str | None]  # GPU type and zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """One GPU type in one zone. most: GPUs that were there when a launch failed. failures: in a
    row. try_s: from then on one backend more may be ordered. probe: GPUs that this one takes.
    why: one line."""

    stock: Stock
    failures: int
    since_s: float
    try_s: float
    probe: int
    why: str


class Shortages:
    """All of them."""

    def __init__(self, first_s: float) -> None:
        """first_s: from the first failure to the first try; doubled after each failure."""
        self.first_s = first_s
        self._known: dict[Place, Shortage] = {}

    def __repr__(self) -> str:
        return f"<Shortages of {', '.join(str(one.stock) for one in self.known) or 'nothing'}>"

    @property
    def known(self) -> tuple[Shortage, ...]:
        """Those that are not over."""
        return tuple(self._known.values())

    def of(self, pool: Pool) -> Shortage | None:
        """That of a pool's GPUs, if there is one."""
        return self._known.get((pool.gpu, pool.zone))

    def failed(
        self, pool: Pool, pools: Iterable[Pool], there: Mapping[str, int], why: str, now_s: float
    ) -> Shortage:
        """A launch in a pool failed or hangs. there: backends by pool, without that launch."""
        place = pool.gpu, pool.zone
        before = self._known.get(place)
        failures = 1 if before is None else before.failures + 1
        stock = Stock(gpu=pool.gpu, most=0, zone=pool.zone)
        made = Shortage(
            stock=replace(stock, most=_used(stock, pools, there)),
            failures=failures,
            since_s=now_s if before is None else before.since_s,
            try_s=now_s + min(LONGEST_S, self.first_s * 2.0 ** min(failures - 1, 32)),
            probe=pool.gpus,
            why=why,
        )
        self._known[place] = made
        return made

    def came(self, pool: Pool) -> Shortage | None:
        """A backend of a pool that was launched is ready: the shortage that ends by this."""
        return self._known.pop((pool.gpu, pool.zone), None)

    def stocks(
        self,
        configured: Iterable[Stock],
        pools: tuple[Pool, ...],
        there: Mapping[str, int],
        now_s: float,
    ) -> tuple[Stock, ...]:
        """The stock to plan with: what is configured, and what was learned where that is less.

        there: backends by pool, those that were ordered too. What is there may be more than could
        be had; it stays.
        """
        limits = {(stock.gpu, stock.zone): stock for stock in configured}
        for place, one in self._known.items():
            used = _used(one.stock, pools, there)
            trying = used > one.stock.most
            most = one.stock.most + (one.probe if now_s >= one.try_s and not trying else 0)
            stock = replace(one.stock, most=max(most, used))
            if place not in limits or stock.most < limits[place].most:
                limits[place] = stock
        return tuple(limits.values())

    def lines(self, now_s: float) -> Iterator[str]:
        """For people."""
        for one in self._known.values():
            wait_s = max(0.0, one.try_s - now_s)
            yield (
                f"{one.stock}: {one.stock.most} are taken for all that there are, because "
                f"{one.why}; one backend more is tried in {wait_s:.0f} s"
            )


def _used(stock: Stock, pools: Iterable[Pool], there: Mapping[str, int]) -> int:
    return sum(stock.taken(pool) * there.get(pool.name, 0) for pool in pools)
