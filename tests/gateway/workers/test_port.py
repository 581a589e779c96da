"""The sockets of the data port: whose they are, and what happens to what waits there."""

import socket

import pytest

from gateway.workers.port import DataPort, require_free


def listen(port):
    """Have all sockets listen, as the workers do."""
    for held in port.sockets:
        held.listen()


def connect(number):
    client = socket.create_connection(("127.0.0.1", number), timeout=5)
    client.sendall(b"x")
    return client


def test_each_worker_has_a_socket():
    """On one port, which is a free one if none is named; a name may have several addresses."""
    port = DataPort("127.0.0.1", 0, workers=3)
    numbers = {held.getsockname()[1] for held in port.sockets}
    local = DataPort("localhost", 0)
    also = {held.getsockname()[1] for held in local.share(0)}
    port.close()
    local.close()

    assert numbers == {port.number}
    assert also == {local.number}
    assert port.sockets == ()


def test_nobody_connects_before_a_worker_listens():
    """A balancer must not take a gateway for ready that is still making its first plan."""
    port = DataPort("127.0.0.1", 0, workers=2)
    with pytest.raises(ConnectionRefusedError):
        connect(port.number)
    port.close()


def test_a_port_of_another_program_is_refused():
    """Also of one that would share it; and another program cannot share that of one worker."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(OSError, match=f"port {number} is in use by another program"):
            require_free("127.0.0.1", number)
        with pytest.raises(OSError, match="in use by another program"):
            DataPort("127.0.0.1", number)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (1, 3), (3, 1), (3, 2)])
def test_a_successor_serves_what_waits(before, after):
    """With more or fewer workers: every connection that the first gateway has not accepted is in
    the queue of a socket that its successor has."""
    first = DataPort("127.0.0.1", 0, workers=before)
    listen(first)
    clients = [connect(first.number) for _ in range(12)]
    inherited = [held.dup() for held in first.sockets]
    second = DataPort("127.0.0.1", first.number, workers=after, inherited=inherited)
    first.close()
    listen(second)
    clients += [connect(first.number) for _ in range(12)]
    shares = [second.share(worker) for worker in range(after)]
    accepted = 0
    for held in second.sockets:
        held.setblocking(False)
        while True:
            try:
                connection, _ = held.accept()
            except BlockingIOError:
                break
            accepted += connection.recv(1) == b"x"
            connection.close()
    for client in clients:
        client.close()
    second.close()

    assert accepted == 24
    assert all(shares)


def test_a_worker_that_pauses_gets_no_connections():
    """The kernel deals its share out to the others, until it comes back."""
    port = DataPort("127.0.0.1", 0, workers=2)
    listen(port)
    port.drop(0)
    clients = [connect(port.number) for _ in range(8)]
    waiting = port.share(1)[0]
    accepted = [waiting.accept()[0] for _ in clients]
    again = port.share(0)
    for one in (*clients, *accepted):
        one.close()
    port.close()

    assert len(accepted) == 8
    assert [held.family for held in again] == [socket.AF_INET]
