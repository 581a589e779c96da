"""The other gateways of a cluster, as far as one gateway hears of them. Pure.

A gateway is heard when its number has changed: so no two clocks are compared.
"""

from collections.abc import Collection

FRESH_S = 2.0  # one that was not heard of for so long has nothing in flight any more
KNOWN_S = 30.0  # one that was not heard of for so long is gone for good


class PeerRecord:
    """One other gateway. number: of what it told last. heard_s: when that was new. usable: whether
    it counts by the same buckets."""

    __slots__ = ("heard_s", "number", "usable")

    def __init__(self) -> None:
        self.number = -1
        self.heard_s = 0.0
        self.usable = True


class Roster:
    """All other gateways that were heard of."""

    def __init__(self) -> None:
        self._peers: dict[str, PeerRecord] = {}

    def __repr__(self) -> str:
        return f"<Roster of {', '.join(self._peers) or 'nobody'}>"

    def heard(self, gateway: str, number: int, now_s: float, *, usable: bool = True) -> None:
        """A gateway told something. number: another one each time. usable: see `PeerRecord`."""
        record = self._peers.get(gateway)
        if record is None:
            record = self._peers[gateway] = PeerRecord()
        if record.number != number:
            record.number, record.heard_s, record.usable = number, now_s, usable

    @property
    def names(self) -> tuple[str, ...]:
        """All that are known."""
        return tuple(self._peers)

    def keep(self, gateways: Collection[str]) -> None:
        """Forget all but these: the others have left."""
        for name in self._peers.keys() - set(gateways):
            del self._peers[name]

    def age_s(self, gateway: str, now_s: float) -> float:
        """Seconds since a gateway was heard."""
        return now_s - self._peers[gateway].heard_s

    def fresh(self, gateway: str, now_s: float) -> bool:
        """Whether what a gateway told last still holds."""
        record = self._peers.get(gateway)
        return record is not None and now_s - record.heard_s < FRESH_S

    def left(self, now_s: float) -> list[str]:
        """Those that are gone for good."""
        return [name for name, r in self._peers.items() if now_s - r.heard_s >= KNOWN_S]

    def present(self, now_s: float) -> tuple[str, ...]:
        """Those that tell something now."""
        return tuple(name for name in self._peers if self.fresh(name, now_s))

    def seen(self, now_s: float) -> float:
        """The share of the gateways, this one among them, whose requests are counted."""
        counted = sum(r.usable and now_s - r.heard_s < FRESH_S for r in self._peers.values())
        return (1 + counted) / (1 + len(self._peers))
