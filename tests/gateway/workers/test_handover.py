"""Gateways on one port agree on who has it, or on who follows."""

import asyncio
import socket
import sys
from contextlib import asynccontextmanager

import pytest

from gateway.proxy.http.sockets import bound
from gateway.workers.handover import Handover, Orphanage, Stage, has_orphans, is_served

HOST = "127.0.0.1"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs abstract sockets")


@asynccontextmanager
async def serving(port=0, *, replace=False):
    """A gateway that serves, without anything behind it; `gone` tells when it was replaced."""
    async with Handover(HOST, port, replace=replace) as handover:
        data = await handover.data_port(1)
        admin = handover.admin_port(HOST, 0)
        for held in (*data.sockets, admin):
            held.listen()
        gone = []
        handover.serve(data.number, lambda: ([admin], data.sockets), lambda: gone.append(1))
        try:
            yield handover, data, gone
        finally:
            data.close()
            admin.close()


async def test_a_port_belongs_to_one_gateway():
    """The second one is told who has it and what it can do; the first one serves on."""
    async with serving() as (first, data, gone):
        with pytest.raises(
            OSError, match=r"process \d+\) is serving on port \d+; --replace takes it"
        ):
            await Handover(HOST, data.number).__aenter__()
        served = await asyncio.to_thread(is_served, HOST, data.number)

    assert served
    assert (first.stage, gone) == (Stage.SERVING, [])
    assert not is_served(HOST, data.number)


async def test_a_successor_gets_the_sockets():
    """If it asks to replace, or if the first one drains; the first one learns when it serves, and
    the port then belongs to the second."""
    async with (
        serving() as (first, data, gone),
        serving(data.number, replace=True) as (second, other, later),
    ):
        await first.replaced.wait()
        same = other.sockets[0].getsockname() == data.sockets[0].getsockname()
        second.stage = Stage.DRAINING
        async with serving(data.number) as (third, _, _):
            await second.replaced.wait()
            admin = third.admin is not None

    assert same
    assert admin
    assert (gone, later) == ([1], [1])


async def test_sockets_of_a_service_manager_are_served():
    """Those of both ports; a predecessor's count before them."""
    held = [socket.create_server((HOST, 0)) for _ in range(2)]
    for one in held:
        one.setblocking(False)
    data, admin = (one.getsockname()[1] for one in held)
    async with Handover(HOST, data, given=held) as handover:
        port = await handover.data_port(1)
        same = (port.sockets[0], handover.admin_port(HOST, admin))
        free = handover.admin_port(HOST, 0)
        free.close()
        port.close()

    assert same == tuple(held)
    assert free not in held


async def test_too_few_sockets_of_a_service_manager_are_told():
    """Too few for the workers, or of another port: nobody would serve them."""
    for workers, other in ((2, 0), (1, 1)):
        held = socket.create_server((HOST, 0))
        number = held.getsockname()[1]
        async with Handover(HOST, number + other, given=[held]) as handover:
            with pytest.raises(OSError, match=rf"{workers} sockets are needed .* given"):
                await handover.data_port(workers)


async def test_a_successor_leaves_what_a_service_manager_gives():
    """The predecessor's sockets may be the same ones, or newer."""
    async with serving() as (_, data, _):
        held = socket.create_server((HOST, 0))
        async with Handover(HOST, data.number, replace=True, given=[held]) as second:
            inherited = second.inherited[0].getsockname()
        name = data.sockets[0].getsockname()

    assert inherited == name
    assert held.fileno() == -1


async def test_a_successor_that_fails_to_start_changes_nothing():
    """The first one serves on, and another may come."""
    async with serving() as (first, data, gone):
        async with Handover(HOST, data.number, replace=True) as failed:
            inherited = len(failed.inherited)
            with pytest.raises(OSError, match="is serving on port"):
                await Handover(HOST, data.number, replace=True).__aenter__()
        async with serving(data.number, replace=True):
            await first.replaced.wait()

    assert inherited == 1
    assert gone == [1]


async def test_one_that_has_stopped_to_accept_leaves_the_port():
    """It still has answers under way; its successor listens anew."""
    async with serving() as (first, data, gone):
        number = data.number
        first.stage = Stage.DRAINING
        data.close()
        async with serving(number) as (second, other, _):
            await first.replaced.wait()
            inherited, opened = second.inherited, other.number

    assert (inherited, opened, gone) == ((), number, [1])


async def test_workers_without_a_supervisor_let_a_gateway_in():
    """They listen on the port, and are no other program."""
    orphan = bound((socket.AF_INET, (HOST, 0)), shared=True)
    orphan.listen()
    number = orphan.getsockname()[1]
    with Orphanage(HOST, number) as first, Orphanage(HOST, number) as second:
        with pytest.raises(OSError, match="in use by another program"):
            await Handover(HOST, number).data_port(1)
        for orphanage in (first, second):
            orphanage.announce()
        known = has_orphans(HOST, number)
        async with serving(number) as (_, data, _):
            opened = data.number
    orphan.close()

    assert known
    assert opened == number
    assert not has_orphans(HOST, number)
