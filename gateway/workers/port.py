"""The data port: its listening sockets, which outlive the processes that accept on them.

A connection waits in the queue of one socket, and is reset when the last process closes that. So
what replaces a worker, and the successor of a whole gateway, go on with the same sockets. Each
worker has its own (SO_REUSEPORT), among which the kernel deals the connections out.
"""

import socket
from collections.abc import Sequence

from gateway.proxy.http.sockets import Place, bound, is_at, places


class DataPort:
    """The listening sockets of the data port, by worker: one for each address of the host.

    number: of the port.
    """

    def __init__(
        self,
        host: str,
        number: int,
        *,
        workers: int = 1,
        inherited: Sequence[socket.socket] = (),
        shared: bool = False,
    ) -> None:
        """number: 0 takes a free one. inherited: sockets that another gateway listens on. shared:
        whether processes that will end listen on the port, with sockets of their own. Raises
        OSError when another program has it."""
        self._shared = shared or workers > 1
        self._workers: list[list[socket.socket]] = [[] for _ in range(workers)]
        self._places: list[Place] = []
        self.host = host
        self.number = number
        try:
            for place in places(host, number):
                self._open(_numbered(place, self.number), [s for s in inherited if is_at(s, place)])
        except OSError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<DataPort {self.host}:{self.number}, {len(self.sockets)} sockets>"

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets of all workers."""
        return tuple(held for own in self._workers for held in own)

    def share(self, worker: int) -> list[socket.socket]:
        """The sockets of one worker; new ones if they were dropped."""
        if not self._workers[worker]:
            self._workers[worker] = [bound(place, shared=self._shared) for place in self._places]
        return self._workers[worker]

    def drop(self, worker: int) -> None:
        """Close the sockets of one worker, which accepts no more for now: the kernel then deals its
        share out to the others."""
        own, self._workers[worker] = self._workers[worker], []
        for held in own:
            held.close()

    def close(self) -> None:
        """Close all sockets; those that other processes have open too go on."""
        for worker in range(len(self._workers)):
            self.drop(worker)

    def _open(self, place: Place, inherited: list[socket.socket]) -> None:
        """Give each worker a socket of one place, and those that are left over to the first ones;
        what waits there is served too."""
        workers = len(self._workers)
        if workers > len(inherited):
            for held in inherited:  # made by a gateway of one worker: no other may stand beside it
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for worker in range(max(workers, len(inherited))):
            held = (
                inherited[worker] if worker < len(inherited) else bound(place, shared=self._shared)
            )
            self._workers[worker % workers].append(held)
            self.number = self.number or int(held.getsockname()[1])
            place = _numbered(place, self.number)
        self._places.append(place)


def _numbered(place: Place, number: int) -> Place:
    family, address = place
    return family, (address[0], number, *address[2:])


def require_free(host: str, number: int) -> None:
    """Raise OSError if any program listens on the port, also one that would share it: vLLM's own
    server would, on 8000 by default as here, and would get a part of the requests."""
    for place in places(host, number):
        bound(place).close()


def require_enough(given: Sequence[socket.socket], host: str, port: int, workers: int) -> None:
    """Raise OSError unless each worker gets a socket of each address. A socket of root's, which
    those of systemd are, lets no other user listen beside it."""
    for place in places(host, port):
        count = sum(is_at(held, place) for held in given)
        if count < workers:
            where = ", ".join(f"{s.getsockname()[0]}:{s.getsockname()[1]}" for s in given)
            raise OSError(
                f"gateway.port: {workers} sockets are needed that listen on {place[1][0]}:{port}, "
                f"one for each worker, and {count} were given (all: {where})"
            )
