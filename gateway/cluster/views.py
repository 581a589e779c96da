"""What the other gateways have in flight, put beside what this one has. Pure."""

from collections.abc import Mapping

from gateway.cluster.codec import CodecError
from gateway.cluster.load_frame import Keys, LoadFrame, backend_keys, packed, summed, unpacked
from gateway.cluster.roster import Roster
from gateway.routing.fleet import Fleet
from gateway.routing.gateway_load import GatewayLoad, Holding

RATE_S = 30.0  # time constant of the measured rate of arrivals


class Views:
    """The frames of all gateways. roster: who told them. rate: requests/s that arrive here."""

    def __init__(self, fleet: Fleet, *, zone: bytes, view_s: float) -> None:
        """zone: of this gateway. view_s: seconds between two frames of each."""
        self._view_s = view_s
        self._fleet = fleet
        self._zone = zone
        self._load: GatewayLoad | None = None
        self.roster = Roster()
        self._frames: dict[str, LoadFrame] = {}
        self._keys: Keys = backend_keys(())
        self._version: int | None = None
        self._number = 0
        self._lent = False
        self.rate = 0.0
        self._rated_s: float | None = None

    def __repr__(self) -> str:
        return f"<Views by {self.roster!r}>"

    def of(self, load: GatewayLoad | None) -> None:
        """What this gateway holds is told by this object from now on."""
        self._load = load

    def arrived(self, requests: int, now_s: float) -> None:
        """So many requests came since the last call."""
        if self._rated_s is not None and now_s > self._rated_s:
            gone_s = now_s - self._rated_s
            kept = max(0.0, 1.0 - gone_s / RATE_S)
            self.rate = kept * self.rate + (1.0 - kept) * requests / gone_s
        self._rated_s = now_s

    def frame(self, print_: bytes, now_s: float) -> bytes:
        """What this gateway tells now."""
        self._number += 1
        nothing = Holding.nothing(len(self._fleet.backends))
        held = nothing if self._load is None else self._load.held(now_s)
        frame = LoadFrame(
            number=self._number,
            print=print_,
            keys=self._own_keys(),
            sums=held.sums,
            tokens=held.tokens,
            claims=held.claims,
            rate=self.rate,
            zone=self._zone,
        )
        return packed(frame)

    def hear(self, told: Mapping[str, bytes], print_: bytes, now_s: float) -> tuple[str, ...]:
        """Take what the other gateways told. Returns those whose words are not understood."""
        strange = []
        for gateway, data in told.items():
            try:
                frame = unpacked(data)
            except CodecError:
                strange.append(gateway)
                continue
            self.roster.heard(gateway, frame.number, now_s, usable=frame.print == print_)
            self._frames[gateway] = frame
        self.roster.keep(told)
        return tuple(strange)

    def lend(self, print_: bytes, now_s: float) -> None:
        """Let routing know what the others hold now; nothing, where they were not heard of."""
        fresh = self.fresh(now_s)
        if self._load is None or not (fresh or self._lent):
            return
        others = summed(fresh, self._own_keys(), print_)
        self._load.lend(others, now_s, now_s + self._view_s)
        self._lent = bool(fresh)

    def fresh(self, now_s: float) -> list[LoadFrame]:
        """What still holds of what the others told."""
        for gateway in self._frames.keys() - set(self.roster.names):
            del self._frames[gateway]
        return [f for name, f in self._frames.items() if self.roster.fresh(name, now_s)]

    def _own_keys(self) -> Keys:
        """Of the fleet's backends, in their order."""
        version = self._fleet.membership.version
        if self._version != version:
            self._version = version
            self._keys = backend_keys([(b.pool, b.url) for b in self._fleet.backends])
        return self._keys
