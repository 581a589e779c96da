"""Who may reach the ports of a gateway, and which key of the configuration changes that. Pure."""

from ipaddress import ip_address
from typing import NamedTuple

from gateway.config.load import Loaded

HERE = "localhost"


class PortPosture(NamedTuple):
    """One port. text: one line. open: whether people elsewhere may use it without a key."""

    text: str
    open: bool


def postures(loaded: Loaded) -> tuple[PortPosture, PortPosture]:
    """The data port and the admin port."""
    gateway = loaded.config.gateway
    keys = None if loaded.access is None else len(loaded.access.keys)
    data_ca = loaded.tls is not None and loaded.tls.ca is not None
    return (
        _posture(
            "data port", gateway.host, gateway.port, loaded.tls is not None,
            who=_who(keys, data_ca), key="access.keys_file",
        ),
        _posture(
            "admin port", gateway.admin_host, gateway.admin_port, loaded.admin_tls is not None,
            who="" if loaded.admin.read is None else "its token or certificate",
            key="access.admin_read",
        ),
    )  # fmt: skip


def _who(keys: int | None, certified: bool) -> str:
    """What clients need; nothing if they need nothing."""
    needed = [] if keys is None else [f"one of {keys} keys"]
    return " and ".join(needed + ["a certificate"] * certified)


def _posture(name: str, host: str, port: int, tls: bool, *, who: str, key: str) -> PortPosture:
    scheme = "https" if tls else "http"
    at = f"{name} {scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if who:
        plain = "" if tls or is_loopback(host) else "; keys travel in plain text without TLS"
        return PortPosture(f"{at}: for whoever has {who}{plain}", open=False)
    if is_loopback(host):
        return PortPosture(f"{at}: for all programs of this machine", open=False)
    text = f"{at}: open to everybody who reaches it, without a key; {key} shuts it"
    return PortPosture(text, open=True)


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach what listens there."""
    if host.lower().rstrip(".") == HERE:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, or empty: all interfaces
        return False
