"""Makes the keys that requests are compared with, of what the configuration says."""

from collections.abc import Callable
from math import inf

from gateway.access.key import AccessKey
from gateway.access.key_ring import KeyRing
from gateway.config.access_keys import AccessKeys, ServedKey


def key_ring(access: AccessKeys | None, wall_clock: Callable[[], float]) -> KeyRing | None:
    """The keys of a configuration; `None` where clients need none."""
    if access is None:
        return None
    slots = {name: slot for slot, name in enumerate(access.slots)}
    return KeyRing([_key(one, slots[one.name]) for one in access.keys], wall_clock)


def _key(one: ServedKey, slot: int) -> AccessKey:
    return AccessKey(
        name=one.name,
        digest=one.digest,
        slot=slot,
        models=None if one.models is None else frozenset(one.models),
        slo_classes=None if one.slo_classes is None else frozenset(one.slo_classes),
        slo_class=one.slo_class,
        expires_s=_limit(one.expires_s),
        requests_per_minute=_limit(one.requests_per_minute),
        tokens_per_minute=_limit(one.tokens_per_minute),
        concurrency=_limit(one.concurrency),
        usd_per_day=_limit(one.usd_per_day),
    )


def _limit(value: float | None) -> float:
    return inf if value is None else float(value)
