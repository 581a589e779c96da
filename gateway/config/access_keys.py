"""The keys of clients as values: what a serving process needs of them. Secrets are digests only."""

import msgspec

from gateway.errors import ConfigError

MOST_KEYS = 4096  # names of keys since the start, for each of which there is room in the board


class ServedKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key. digest: its SHA-256. slo_class: of requests that name none. expires_s: Unix time.
    Limits: `None`, there is none."""

    name: str
    digest: bytes
    models: tuple[str, ...] | None = None
    slo_classes: tuple[str, ...] | None = None
    slo_class: str | None = None
    weight: float = 1.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    usd_per_day: float | None = None
    expires_s: float | None = None

    def __repr__(self) -> str:
        return f"<ServedKey {self.name}>"


class AccessKeys(msgspec.Struct, frozen=True, kw_only=True):
    """All keys. slots: the names that have had a place in the board since the start, in the order
    of the places: one that is gone keeps its place, for what is still counted there."""

    keys: tuple[ServedKey, ...] = ()
    slots: tuple[str, ...] = ()

    @property
    def weights(self) -> dict[str, float]:
        """In the queue, by name, of those that have not 1."""
        return {key.name: key.weight for key in self.keys if key.weight != 1.0}

    def after(self, before: "AccessKeys | None") -> "AccessKeys":
        """These keys at the places that they had before. Raises ConfigError if they have no room
        any more."""
        taken = () if before is None else before.slots
        slots = tuple(dict.fromkeys((*taken, *(key.name for key in self.keys))))
        if len(slots) > MOST_KEYS:
            text = f"access: more than {MOST_KEYS} names of keys since the start need a restart"
            raise ConfigError((text,))
        return msgspec.structs.replace(self, slots=slots)
