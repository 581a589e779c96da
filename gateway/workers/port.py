"""The port that worker processes share, and the names that keep a second gateway off it.

SO_REUSEPORT lets two gateways listen on one port without an error. So each gateway also binds a
name that belongs to the port; the kernel frees it when the process ends in any way (abstract
sockets of Linux, unix(7)).
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserve(host: str, port: int) -> Iterator[int]:
    """Reserve a port for several workers while the context is open; yields its number.

    port: 0 takes a free one. Raises OSError when another gateway of this machine has the port, or a
    program that listens without SO_REUSEPORT.
    """
    family, socket_type, _, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, socket_type) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)  # without listen(): the kernel gives connections to listeners only
        number = int(held.getsockname()[1])
        with _named(_name("owner", host, number)):
            yield number


@contextmanager
def announce(host: str, port: int) -> Iterator[None]:
    """Announce, while the context is open, that a gateway with a supervisor serves the port."""
    with _named(_name("serving", host, port)):
        yield


def is_served(host: str, port: int) -> bool:
    """Whether a gateway with a supervisor serves the port, as `announce` says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_name("serving", host, port))
        except OSError:
            return False
        return True


@contextmanager
def _named(name: str) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        try:
            held.bind(name)
        except OSError as error:
            raise OSError(error.errno, "another gateway has this port") from error
        yield


def _name(what: str, host: str, port: int) -> str:
    return f"\0cuvee-{what}-{host}:{port}"
