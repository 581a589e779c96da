"""A real vLLM that is told to end while it answers: the last of all tests, for it does end."""

import socket

from tests.real import wire
from tests.real.load import CHAT, LONG
from tests.real.servers import until

SOON_S = 30.0
WAYS = ("whole", "error event", "refused")


def test_no_answer_is_cut_without_a_word(vllm, gateway, record_property):
    """What is under way at SIGTERM is whole, or ends in an error: nothing is short and clean."""
    bodies = [{**LONG, "stream": stream} for stream in (True, True, False, False)]
    pairs = [wire.request(gateway.url, CHAT, body) for body in bodies]
    for connection in pairs[:2]:
        connection.recv(1, socket.MSG_PEEK)
    vllm.process.terminate()
    answers = [wire.read(connection) for connection in pairs]
    for connection in pairs:
        connection.close()

    ways = [_way(answer) for answer in answers]
    record_property("figure", ", ".join(ways))
    assert set(ways) <= set(WAYS)
    assert until(lambda: wire.ask(gateway.url, "/health", method="GET").status == 503, SOON_S)


def _way(answer: wire.Answer) -> str:
    """How an answer ended."""
    if answer.status >= 500:
        return "refused"
    told = answer.body.decode()
    if '"finish_reason":"length"' in told:
        return "whole"
    return "error event" if '"error":' in told else "cut"
