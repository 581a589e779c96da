"""What differs between the configuration in force and another one. Knows no live object."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.config.load import Loaded
from gateway.config.schema import Config

# Of the section `gateway`: sockets, processes and the place where gateways meet stay as they are
# until a restart.
FIXED = ("host", "port", "workers", "admin_host", "admin_port", "cluster")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The step from the configuration in force to another one.

    loaded: what can be put in force: the other one, with what cannot change as it is. keys: paths
    of the keys that change. restart: paths of those that differ but need a restart. urls: base URLs
    by pool, of the pools whose list of backends, or where more are found, is new.
    """

    loaded: Loaded
    keys: tuple[str, ...]
    restart: tuple[str, ...]
    urls: dict[str, tuple[str, ...]]


def change(before: Loaded, wanted: Loaded) -> Change:
    """The step from one configuration to another."""
    now, new = before.config.gateway, wanted.config.gateway
    kept = {name: getattr(now, name) for name in FIXED}
    config = msgspec.structs.replace(wanted.config, gateway=msgspec.structs.replace(new, **kept))
    access = None if wanted.access is None else wanted.access.after(before.access)
    loaded = msgspec.structs.replace(wanted, config=config, access=access)
    pools = before.config.pools
    return Change(
        loaded=loaded,
        keys=tuple(_keys(before, loaded)),
        restart=tuple(f"gateway.{name}" for name in FIXED if kept[name] != getattr(new, name)),
        urls={
            name: section.backends
            for name, section in config.pools.items()
            if name not in pools
            or section.backends != pools[name].backends
            or section.discover != pools[name].discover
        },
    )


def _keys(before: Loaded, after: Loaded) -> Iterator[str]:
    """Paths of the keys that differ, and of those that name a file whose content does."""
    keys = list(_differences(_plain(before.config), _plain(after.config), ""))
    yield from keys
    yield from _files(before, after, keys)
    yield from _own_files(before, after, keys)
    pools = {pool.name: pool for pool in before.pools}
    for pool in after.pools:
        known = pools.get(pool.name)
        for key, name in (("profile", "profile"), ("usd_per_hour", "prices")):
            path = f"pools.{pool.name}.{key}"
            if known is None or path in keys or name in keys:
                continue
            if getattr(known, key) != getattr(pool, key):
                yield path


def _files(before: Loaded, after: Loaded, keys: list[str]) -> Iterator[str]:
    """Paths of keys whose file has another content: keys and certificates of pools, tokenizers."""
    for name, tokenizer in after.tokenizers.items():
        path = f"models.{name}.tokenizer"
        was = before.tokenizers.get(name)
        if was is not None and was.print != tokenizer.print and path not in keys:
            yield path
    for name, one in after.upstreams.items():
        known = before.upstreams.get(name)
        if known is None or known == one or any(key.startswith(f"pools.{name}.") for key in keys):
            continue
        if known.headers != one.headers:
            yield f"pools.{name}.api_key_file"
        if known.tls != one.tls:
            yield (
                f"pools.{name}.ca_file"
                if one.tls and one.tls.ca
                else f"pools.{name}.client_cert_file"
            )


def _own_files(before: Loaded, after: Loaded, keys: list[str]) -> Iterator[str]:
    """Of the gateway's own ports: certificates, and keys of clients and of operators."""
    for field, path in (
        ("tls", "gateway.tls"), ("admin_tls", "gateway.admin_tls"),
        ("access", "access"), ("admin", "access.admin"),
    ):  # fmt: skip
        named = any(key == path or key.startswith((f"{path}.", f"{path}_")) for key in keys)
        if getattr(before, field) != getattr(after, field) and not named:
            yield path


def _plain(config: Config) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(config)
    return plain


def _differences(before: dict[str, Any], after: dict[str, Any], path: str) -> Iterator[str]:
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{path}{key}.")
        elif old != new:
            yield f"{path}{key}"
