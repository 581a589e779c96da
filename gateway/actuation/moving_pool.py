"""One pool whose number of backends is decided here, with all that is known of it."""

from collections.abc import Mapping

from gateway.actuation.aims import Aim
from gateway.actuation.courier import Courier
from gateway.actuation.startup import StartTimes
from gateway.config.pool_schema import PoolSection
from gateway.config.scale import bounds_of
from planner.model.pool import Pool
from planner.program.limits import backend_price
from planner.scaling.sleeping import SleepRent, SleepTerms

HANG_QUANTILE = 0.95  # a launch that takes a few times as long as so many of the starts hangs


class MovingPool:
    """least, most: bounds of the wish. asleep: backends that may sleep, and asleep_usd: what one
    that sleeps costs, $/h; `None`: what it costs awake. rent: of surplus that sleeps. times: of
    starts. wakes: of wakings. aim: the number. courier: to where it goes."""

    def __init__(self, name: str, section: PoolSection, courier: Courier) -> None:
        """section: of a checked pool with `scale`."""
        self.name = name
        self.courier = courier
        self.times, self.wakes = StartTimes(1.0), StartTimes(1.0)
        self.aim, self.rent = Aim(), SleepRent()
        self.configure(section)

    def __repr__(self) -> str:
        return f"<MovingPool {self.name}, {self.aim!r}, {self.times!r}>"

    def configure(self, section: PoolSection) -> None:
        """Use these settings from now on."""
        scale = section.scale
        assert scale is not None
        self.least, most = bounds_of(section)
        self.most = max(most, self.least)
        self.asleep, self.asleep_usd = scale.asleep, scale.asleep_usd_per_hour
        self.times.expected_s, self.wakes.expected_s = scale.startup_s, scale.wake_s

    @property
    def start_h(self) -> float:
        """How long a start takes on average, hours: it is paid for."""
        return self.times.mean_s / 3600.0

    def sleep_terms(self, pool: Pool) -> SleepTerms:
        """What sleep is worth. pool: the planner's. On shared GPUs any number may sleep, and costs
        nothing: the group is paid for."""
        usd = backend_price(pool)
        asleep_usd = usd if self.asleep_usd is None else self.asleep_usd
        return SleepTerms(
            usd_per_hour=usd,
            asleep_usd_per_hour=asleep_usd if pool.shared is None else 0.0,
            most=self.asleep if pool.shared is None else self.most,
            start_h=self.start_h,
        )

    def state(self) -> dict[str, list[float]]:
        """The starts and wakings that were learned from, for `restore`."""
        return self.times.state() | {"wake": self.wakes.state()["whole"]}

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Learn again what an earlier process had learned."""
        self.times.restore(state)
        self.wakes.restore({"whole": state.get("wake", [])})

    def hang_s(self, factor: float) -> float:
        """How long a launch may take before it is given up, seconds."""
        return factor * self.aim.patience * self.times.quantile_s(HANG_QUANTILE)

    def doze_s(self, factor: float) -> float:
        """The same for one that is woken."""
        return factor * self.wakes.quantile_s(HANG_QUANTILE)
