"""Backends of the file and those that were found, as one list for each pool. Pure."""

from collections.abc import Collection, Mapping

from gateway.config.addresses import Address, address
from gateway.config.pool_schema import PoolSection

MOST = 4096  # backends of one gateway


def joined(
    pools: Mapping[str, PoolSection],
    found: Mapping[str, tuple[str, ...]],
    itself: Collection[tuple[str, int]] = (),
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Base URLs of the pools of `found`, those of the file first; and a line for each that is left
    out: an engine that is there twice for one model, the gateway itself, or one too many.

    itself: hosts and ports of the gateway; see `own_ends`.
    """
    # By model: one engine may serve two models, in a pool of each.
    used: dict[tuple[str, Address], str] = {}
    for name, section in pools.items():
        for url in section.backends:
            used.setdefault((section.model, address(url)), name)
    room = MOST - sum(len(section.backends) for section in pools.values())
    urls, remarks = dict[str, tuple[str, ...]](), []
    for name in (name for name in pools if name in found):
        section = pools[name]
        own = [url.rstrip("/") for url in section.backends]
        left = 0
        for url in found[name]:
            key = section.model, address(url)
            if key in used:
                remarks.append(_twice(name, used[key], url))
            elif (key[1].host, key[1].port) in itself:  # a request would come back for ever
                remarks.append(f"pool {name}: {url} is this gateway itself: it is not used")
            elif room <= 0:
                left += 1
            else:
                used[key] = name
                own.append(url)
                room -= 1
        if left:
            remarks.append(f"pool {name}: {left} backends are too many: at most {MOST} in all")
        urls[name] = tuple(own)
    return urls, tuple(remarks)


def _twice(pool: str, other: str, url: str) -> str:
    where = "there twice" if other == pool else f"in pool {other} already"
    return f"pool {pool}: {url} is {where}: it is used once"
