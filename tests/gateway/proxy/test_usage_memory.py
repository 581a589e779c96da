"""Which backends are asked for the usage of their streams."""

import pytest

from gateway.errors import StreamBroken
from gateway.proxy.engines import EngineRefusal
from gateway.proxy.usage_memory import UsageMemory
from gateway.routing.body import USAGE, read_body
from gateway.routing.endpoints import CHAT
from gateway.routing.fleet import Fleet

BODY = b'{"model":"m","stream":true}'
UNNAMED = EngineRefusal(400, {"message": "unknown field"})
NAMED = EngineRefusal(400, {"message": "no", "param": "body.stream_options"})


@pytest.fixture
def backends():
    return Fleet.of({"p": ("http://a:1", "http://b:1")}).backends


def asks(memory, backend, body=BODY):
    spliced = memory.spliced(backend, read_body(body, CHAT), body)
    return spliced is not None and USAGE.rstrip(b",") in spliced


def test_streams_are_asked_unless_the_client_or_the_operator_says_otherwise(backends):
    """Only a stream without options of its own."""
    memory = UsageMemory()

    assert asks(memory, backends[0])
    assert asks(memory, backends[0], b'{"stream":true,"stream_options":null}')
    assert not asks(memory, backends[0], b'{"model":"m"}')
    assert not asks(memory, backends[0], b'{"stream":true,"stream_options":{}}')
    memory.wanted = False
    assert not asks(memory, backends[0])


def test_a_backend_that_names_the_option_is_not_asked_again(backends):
    """Others are, and so is this one when it comes back into the fleet."""
    memory = UsageMemory()
    memory.took(backends[0], asked=True)

    assert memory.doubts(backends[0], NAMED)
    assert not asks(memory, backends[0])
    assert asks(memory, backends[1])
    memory.forget(backends[0])
    assert asks(memory, backends[0])


def test_a_mistake_of_the_client_is_no_refusal_of_the_option(backends):
    """It is tried without only until the backend has taken the option once, and remembered only if
    that helped."""
    memory = UsageMemory()

    assert memory.doubts(backends[0], UNNAMED)
    assert asks(memory, backends[0])
    memory.took(backends[0], asked=True)
    assert not memory.doubts(backends[0], UNNAMED)

    assert memory.doubts(backends[1], UNNAMED)
    memory.took(backends[1], asked=False)
    assert not asks(memory, backends[1])


@pytest.mark.parametrize(
    "error", [EngineRefusal(500, {"message": "stream_options"}), StreamBroken("x")]
)
def test_other_errors_are_none(backends, error):
    """A broken backend says nothing about the option."""
    assert not UsageMemory().doubts(backends[0], error)
