"""Sockets for ports: how they are bound, and what is said when a port is in use."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

BACKLOG = 1024
Place = tuple[socket.AddressFamily, Any]  # a family and an address of it, as `bind` takes it


def bound(place: Place, *, shared: bool = False) -> socket.socket:
    """A socket that may listen at a place, and does not yet: nobody can connect before there is
    somebody to accept. shared: whether other sockets of this user may listen there as well. Raises
    OSError, also when another program listens there."""
    family, address = place
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind(address)
        held.setblocking(False)
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            text = f"port {address[1]} is in use by another program"
            raise OSError(error.errno, text) from error
        raise
    return held


def places(host: str, number: int) -> Iterator[Place]:
    """The addresses of a host with this port; of all interfaces for an empty host."""
    found = socket.getaddrinfo(
        host or None, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    yield from dict.fromkeys((family, address) for family, _, _, _, address in found)


def is_at(held: socket.socket, place: Place) -> bool:
    """Whether a socket listens at this place; any port for port 0."""
    family, address = place
    own = held.getsockname()
    return held.family == family and own[0] == address[0] and address[1] in (0, own[1])
