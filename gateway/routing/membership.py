"""The backends of a gateway as a value, which every process of the gateway applies to its fleet.

Owns names and row numbers of backends, so that all processes agree on them. Knows no live backend.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import count

import msgspec

from gateway.errors import ConfigError

# Whether a backend gets new requests: it does; it gets none and finishes what it has; it gets none
# and will be gone soon, so that streams which have not begun there go to others.
Drained = int
NOT_DRAINED, FINISHING, LEAVING = 0, 1, 2


class Member(msgspec.Struct, frozen=True, array_like=True):
    """One backend. name: `POOL-3`; never given to another backend. row: its index in arrays that
    the processes share. lacks: adapters, by the names that clients use, which others of the model
    have and it has not. drained: see `Drained`."""

    name: str
    pool: str
    url: str
    row: int
    lacks: tuple[str, ...] = ()
    drained: Drained = NOT_DRAINED


class Membership(msgspec.Struct, frozen=True):
    """All backends of a gateway. version: number of changes so far. pools: for every pool, in
    order, the number of its next new backend. left: the same for pools that are gone and may come
    back."""

    version: int
    members: tuple[Member, ...]
    pools: dict[str, int]
    left: dict[str, int] = {}

    def urls(self) -> dict[str, tuple[str, ...]]:
        """The base URLs by pool."""
        return {
            pool: tuple(member.url for member in self.members if member.pool == pool)
            for pool in self.pools
        }

    def counts(self, pools: Sequence[str]) -> tuple[int, ...]:
        """(P,) number of backends of each pool, without those that are drained."""
        own = [member.pool for member in self.members if not member.drained]
        return tuple(own.count(pool) for pool in pools)

    @property
    def rows(self) -> int:
        """The least length of an array with a row for every member."""
        return 1 + max((member.row for member in self.members), default=-1)


def first(urls: Mapping[str, Sequence[str]]) -> Membership:
    """The membership at the start. Raises ConfigError as `changed` does."""
    return changed(Membership(version=-1, members=(), pools={}), urls, pools=tuple(urls))


def changed(
    before: Membership,
    urls: Mapping[str, Sequence[str]],
    *,
    pools: Sequence[str] | None = None,
    in_use: Collection[int] = (),
) -> Membership:
    """The next membership: these backends; those that were there before keep their name and row.

    urls: base URLs by pool; a pool that is not named keeps its backends, and a trailing slash does
    not count. pools: all pools from now on, in order; `None`: those of before. in_use: further rows
    that no new backend may get, because some process may still write there. Raises ConfigError, one
    line for each problem, for an unknown pool and for a URL that occurs twice in one.
    """
    wanted = tuple(before.pools) if pools is None else tuple(pools)
    _check(wanted, urls)
    present = before.urls()
    known = {(member.pool, member.url): member for member in before.members}
    taken = set(in_use) | {member.row for member in before.members}
    free = (row for row in count() if row not in taken)
    # Numbers go on and are never used again: logs and metrics name backends for longer than they
    # live.
    numbers = dict.fromkeys(wanted, 0) | before.left | before.pools
    members = []
    for pool in wanted:
        for url in urls.get(pool, present.get(pool, ())):
            member = known.get((pool, url.rstrip("/")))
            if member is None:
                name = f"{pool}-{numbers[pool]}"
                member = Member(name=name, pool=pool, url=url.rstrip("/"), row=next(free))
                numbers[pool] += 1
            members.append(member)
    return Membership(
        version=before.version + 1,
        members=tuple(members),
        pools={pool: numbers[pool] for pool in wanted},
        left={pool: number for pool, number in numbers.items() if pool not in wanted},
    )


def draining(before: Membership, drained: Mapping[str, Drained]) -> Membership:
    """The next membership: the same backends, of which these are drained, by their names, and the
    others not; `before` itself if that is so already."""
    members = tuple(
        msgspec.structs.replace(member, drained=drained.get(member.name, NOT_DRAINED))
        for member in before.members
    )
    if members == before.members:
        return before
    return msgspec.structs.replace(before, version=before.version + 1, members=members)


def lacking(before: Membership, lacks: Mapping[str, tuple[str, ...]]) -> Membership:
    """The next membership: the same backends, of which these lack these adapters, by their names,
    and the others none; `before` itself if that is so already."""
    members = tuple(
        msgspec.structs.replace(member, lacks=lacks.get(member.name, ()))
        for member in before.members
    )
    if members == before.members:
        return before
    return msgspec.structs.replace(before, version=before.version + 1, members=members)


def _check(pools: Collection[str], urls: Mapping[str, Sequence[str]]) -> None:
    problems = [f"pools.{pool}: there is no such pool" for pool in urls if pool not in pools]
    for pool, own in urls.items():
        # Two pools may share a URL: one engine can serve two models, as adapters of one base.
        normalised = [url.rstrip("/") for url in own]
        problems += [
            f"pools.{pool}: {url} is listed twice"
            for url in dict.fromkeys(normalised)
            if normalised.count(url) > 1
        ]
    if problems:
        raise ConfigError(tuple(problems))
