"""The port that worker processes share: its number, and which gateway of this machine has it.

SO_REUSEPORT would let two gateways take one port without a word. So each holds a name beside it
that the kernel gives back when its holder dies, however it dies (Linux's abstract sockets).
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserve(host: str, port: int) -> Iterator[int]:
    """Reserves a port that several workers may listen on, while this is open; its number (0 takes
    a free one).

    Raises OSError when another gateway of this machine has it, or a program that does not share.
    """
    family, kind, _, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)  # never listening: the kernel deals connections to listeners only
        number = int(held.getsockname()[1])
        with _named(_name("owner", host, number)):
            yield number


@contextmanager
def announce(host: str, port: int) -> Iterator[None]:
    """Announces, while this is open, that a gateway with a supervisor serves the port."""
    with _named(_name("serving", host, port)):
        yield


def is_served(host: str, port: int) -> bool:
    """Whether any process announces that it serves the port."""
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
