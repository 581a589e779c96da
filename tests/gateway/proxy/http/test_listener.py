"""The data port: how it closes."""

import asyncio
import contextlib
import gc

import pytest

from gateway.proxy.http.body_budget import SMALL, UNLIMITED, BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.request import ClientLimits
from gateway.proxy.http.tls import TlsFiles
from tests.certificates import Authority

OK = b"HTTP/1.1 200 OK\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


LIMIT_S = 20.0

LAST = b"content-length: 2\r\nconnection: close\r\n\r\nok"


class Port:
    """A listener whose requests wait in `came` for the test to answer them. A test that waits in
    vain inside it fails."""

    def __init__(self, **limits):
        self.came: asyncio.Queue[ClientConnection] = asyncio.Queue()
        self.gone: asyncio.Queue[ClientConnection] = asyncio.Queue()
        self.budget = BodyBudget(limits.pop("budget", UNLIMITED))
        self.listener = Listener(
            ClientLimits(**{"body_bytes": 1000} | limits), self.serve, budget=self.budget
        )
        self.writers = []

    def serve(self, client, request):
        client.on_disconnect = lambda: self.gone.put_nowait(client)
        self.came.put_nowait(client)

    async def __aenter__(self):
        self.limit = await asyncio.timeout(LIMIT_S).__aenter__()
        self.port = await self.listener.listen("127.0.0.1", 0)
        return self

    async def __aexit__(self, *error):
        for writer in self.writers:
            writer.close()
        await self.listener.close(0)
        await self.limit.__aexit__(*error)

    async def connect(self, sent=b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(sent)
        return reader, writer


def answer(client, body=b"ok"):
    client.respond(OK, body)
    client.finish()


async def test_other_certificates_lose_no_connection(tmp_path):
    """Clients that connect while they change are all answered, and those before stay."""
    authority, certificate, key = Authority(tmp_path), tmp_path / "c", tmp_path / "k"
    authority.sign("a", certificate, key)
    context = authority.client()
    async with Port() as port:

        def secure(number):
            files = {"certificate": str(certificate), "key": str(key), "print": str(number)}
            port.listener.secure(TlsFiles(**files))

        async def ask():
            reader, writer = await asyncio.open_connection("127.0.0.1", port.port, ssl=context)
            for _ in range(2):
                writer.write(GET)
                answer(await port.came.get())
                await reader.readuntil(b"ok")
            port.writers.append(writer)

        secure(0)
        await port.listener._securing
        for number in range(1, 6):
            asking = [asyncio.create_task(ask()) for _ in range(8)]
            secure(number)
            await asyncio.gather(*asking)
        assert len(port.listener.connections) == 40


async def test_idle_connections_are_closed_soon():
    """Used or never used: nothing of theirs is lost."""
    async with Port() as port:
        (new, _), (used, _) = await port.connect(), await port.connect(GET)
        answer(await port.came.get())
        await used.readuntil(b"ok")
        await port.listener.close(60)

        assert (await new.read(), await used.read()) == (b"", b"")
        assert port.listener.connections == set()


async def test_a_connection_that_was_just_made_is_served():
    """Its request is under way: whoever connected before the listener closed is not turned away."""
    async with Port() as port:
        reader, writer = await port.connect()
        closing = asyncio.create_task(port.listener.close(60))
        await until(lambda: port.listener.closing)
        writer.write(GET)
        answer(await port.came.get())
        await closing

        assert await reader.read() == OK + b"content-length: 2\r\nconnection: close\r\n\r\nok"


async def test_answers_under_way_are_finished():
    """Whole, and then the connection is closed although it was to be kept; what is still being sent
    is taken and answered too; nobody new gets in."""
    async with Port() as port:
        reader, _ = await port.connect(GET)
        client = await port.came.get()
        client.start(OK, b"one")
        late, writer = await port.connect(b"GET / HT")
        await until(lambda: sum(not c.idle for c in port.listener.connections) == 2)
        closing = asyncio.create_task(port.listener.close(60))
        await until(lambda: port.listener.closing)
        writer.write(b"TP/1.1\r\nHost: a\r\n\r\n")
        answer(await port.came.get())
        client.write(b"two")
        client.end()
        client.finish()
        await closing

        assert (await reader.read()).endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        assert await late.read() == OK + b"content-length: 2\r\nconnection: close\r\n\r\nok"
        with pytest.raises(OSError, match=r"refused|Connect"):
            await port.connect()


async def test_what_a_stream_has_promised_is_kept():
    """Its head was sent before the listener closed and did not say that the connection ends with
    it: the client's next request may be under way when it does, and is answered."""
    async with Port() as port:
        reader, writer = await port.connect(GET)
        client = await port.came.get()
        client.start(OK, b"one")
        closing = asyncio.create_task(port.listener.close(60))
        await until(lambda: port.listener.closing)
        client.end()
        client.finish()
        writer.write(GET)  # with the end of the stream on its way
        answer(await port.came.get())
        await closing

        assert (await reader.read()).endswith(b"0\r\n\r\n" + OK + LAST)


async def test_what_came_while_the_process_stood_still_is_served(monkeypatch):
    """Without CPU for longer than an idle connection is kept, what clients have sent meanwhile has
    not been read when the listener looks who is idle."""
    monkeypatch.setattr("gateway.proxy.http.listener.FRESH_S", 0.0)
    async with Port() as port:
        reader, writer = await port.connect(GET)
        answer(await port.came.get())
        await reader.readuntil(b"ok")
        writer.write(GET)
        closing = asyncio.create_task(port.listener.close(60))
        answer(await port.came.get())
        await closing

        assert (await reader.read()).endswith(LAST)


async def until(true):
    """Waits for what another callback brings about."""
    while not true():  # noqa: ASYNC110 (it has no event)
        await asyncio.sleep(0.001)


async def test_an_answer_on_its_way_is_let_go():
    """Made before the closing began, but too large for the network to have taken yet."""
    async with Port() as port:
        reader, _ = await port.connect(GET)
        body = b"x" * (16 << 20)
        answer(await port.came.get(), body)
        closing = asyncio.create_task(port.listener.close(60))
        await reader.readuntil(b"\r\n\r\n")

        assert len(await reader.readexactly(len(body))) == len(body)
        await closing


async def test_patience_ends():
    """What is not over by then is broken off, and whoever serves it is told."""
    async with Port() as port:
        reader, _ = await port.connect(GET)
        client = await port.came.get()
        client.start(OK, b"one")
        await port.listener.close(0.01)

        assert await port.gone.get() is client
        with contextlib.suppress(ConnectionError):
            assert not (await reader.read()).endswith(b"0\r\n\r\n")


async def test_one_that_fails_to_be_closed_does_not_stop_the_rest():
    """Every sweep is followed by another."""
    async with Port(idle_s=0.01) as port:
        failures = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))

        class Broken:
            deadline_s, idle = 0.0, True

            def expire(self):
                port.listener.connections.discard(self)
                raise RuntimeError("of the test")

            def close(self):
                raise AssertionError

            abort = close

        port.listener.connections.add(Broken())
        reader, _ = await port.connect()

        assert await reader.read() == b""
        assert [str(failure) for failure in failures] == ["of the test"]


async def test_the_number_of_clients_is_bounded(caplog):
    """The one that was idle for longest goes first, and there is one line about it; those with a
    request under way are never cut, so that then the newest is closed."""
    async with Port(connections=3) as port:
        held = [await port.connect() for _ in range(2)]
        for _, writer in held:
            writer.write(GET)
        served = [await port.came.get() for _ in held]
        idle, _ = await port.connect()
        newer, writer = await port.connect()
        gone = await idle.read()
        writer.write(GET)
        served.append(await port.came.get())
        refused, _ = await port.connect()
        late = await refused.read()
        for client in served:
            client.respond(b"HTTP/1.1 200 OK\r\n", b"ok")
            client.finish()
        answers = [await reader.readuntil(b"ok") for reader in (*(r for r, _ in held), newer)]

    assert (gone, late) == (b"", b"")
    assert port.listener.evicted == 2
    assert all(answer.startswith(b"HTTP/1.1 200 OK") for answer in answers)
    assert [record.message for record in caplog.records] == [
        "the limit of 3 client connections is reached"
    ]


def upload(size):
    """A request without the last byte of its body."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    return head + b"x" * (size - 1)


async def test_the_bodies_of_all_clients_have_a_budget(caplog):
    """Beyond it the upload that was idle for longest gets 503 with Retry-After; the others end
    well, and so does what is small."""
    async with Port(body_bytes=1 << 20, budget=2_500_000) as port:
        uploads = []
        for _ in range(3):
            uploads.append(await port.connect(upload(1_000_000)))
            held = min(999_999 * len(uploads), 2 * 999_999)
            await until(lambda held=held: port.budget.used == held)
            # So that who was idle for longest can be told: the loop's clock may have milliseconds.
            later_s = asyncio.get_running_loop().time() + 0.005
            await until(lambda later_s=later_s: asyncio.get_running_loop().time() > later_s)
        refusal = await uploads[0][0].read()
        for _, writer in uploads[1:]:
            writer.write(b"x")
        clients = [await port.came.get() for _ in uploads[1:]]
        small, writer = await port.connect(upload(SMALL))
        writer.write(b"x")
        clients.append(await port.came.get())
        for client in clients:
            answer(client)
        for reader in (uploads[1][0], uploads[2][0], small):
            await reader.readuntil(b"ok")

        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refusal
        assert b'"overloaded"' in refusal
        assert port.budget.used == 0
    assert [record.message for record in caplog.records] == [
        "the limit of 2500000 bytes of bodies in memory is reached"
    ]


async def test_a_large_body_is_refused_while_whole_ones_use_up_the_budget():
    """Requests under way are not cut; when they end there is room again."""
    async with Port(body_bytes=1 << 20, budget=1_500_000) as port:
        first, writer = await port.connect(upload(1_000_000))
        writer.write(b"x")
        client = await port.came.get()
        refused, _ = await port.connect(upload(1_000_000))
        refusal = await refused.read()
        answer(client)
        await first.readuntil(b"ok")
        second, writer = await port.connect(upload(1_000_000))
        writer.write(b"x")
        answer(await port.came.get())

        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert await second.readuntil(b"ok")
        assert port.budget.used == 0


async def test_bodies_of_clients_that_leave_are_given_back():
    """Uploads cut in the middle, requests under way, and those that wait for their turn."""
    async with Port(body_bytes=1 << 20) as port:
        _, cut = await port.connect(upload(500_000))
        _, busy = await port.connect((upload(500_000) + b"x") * 2 + upload(500_000))
        await until(lambda: port.budget.used == 4 * 500_000 - 2)
        client = await port.came.get()
        cut.transport.abort()
        busy.close()
        assert await port.gone.get() is client
        client.finish()

        await until(lambda: port.budget.used == 0)


async def test_answers_that_nobody_reads_count_too():
    """Until they are read; who has not read for longest is cut off for one who sends."""
    async with Port(body_bytes=1 << 20) as port:
        clients, readers = [], []
        for size in (32 << 20, 48 << 20):
            readers.append((await port.connect(GET))[0])
            readers[-1]._transport.pause_reading()
            clients.append(await port.came.get())
            answer(clients[-1], b"x" * size)
        unread = [client.unread_bytes for client in clients]
        counted = port.budget.limit = port.budget.used
        await port.connect(upload(1_000_000) + b"x")
        answer(await port.came.get())
        left = [client.unread_bytes for client in clients]
        readers[1]._transport.resume_reading()
        await readers[1].readuntil(b"\r\n\r\n")
        await readers[1].readexactly(48 << 20)

        assert all(unread)
        assert counted == sum(unread)
        assert left[0] == 0 < left[1]
        await until(lambda: port.budget.used == 0)


@pytest.mark.parametrize("more", [b"", GET, b"POST / HTTP/1.1\r\nhost: x\r\nx: "], ids=len)
async def test_a_closed_connection_is_freed_at_once(more):
    """Thousands of them would stay until the garbage collector comes, which is seldom."""
    async with Port() as port:
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            _, writer = await port.connect(GET + more)
            await port.came.get()
            writer.transport.abort()
            await port.gone.get()
            gc.collect()
            left = [o for o in gc.garbage if type(o).__module__.startswith("gateway.")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    assert left == []
