"""What makes trails of requests: switches by pool, callers apart, names of conversations."""

import json

import pytest

from gateway.config.serving import ServedModel
from gateway.config.upstream import Upstream
from gateway.proxy.http.request import Request
from gateway.proxy.names import Names
from gateway.proxy.trails import Trails
from gateway.routing.affinity import Affinity
from gateway.routing.body import read_body
from gateway.routing.endpoints import CHAT

LONG = "a word and " * 400


def make_trails(*switches, header="x-session-id", affinity=None):
    """Of one model with a pool for each switch."""
    upstreams = {f"p{n}": Upstream(affinity=switch) for n, switch in enumerate(switches)}
    model = ServedModel(name="m", max_model_len=4096, bytes_per_token=4.0, pools=tuple(upstreams))
    trails = Trails(affinity or Affinity())
    trails.configure(header, Names((model,), upstreams), upstreams)
    return trails


def trail(trails, text=LONG, *, caller="", headers=()):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    request = Request(
        method=b"POST", target=b"/v1/chat/completions", headers=list(headers), body=body,
        keep_alive=True, http11=True,
    )  # fmt: skip
    return trails.of(request, read_body(body, CHAT), "m", caller)


@pytest.mark.parametrize(
    ("switches", "alike"), [(("auto",), True), (("auto", "off"), True), (("auto", "caller"), False)]
)
def test_callers_are_kept_apart_where_one_pool_of_the_model_says_so(switches, alike):
    """Else they share what engines share."""
    trails = make_trails(*switches)

    mine, theirs = trail(trails, caller="a"), trail(trails, caller="b")

    assert (mine.hashes == theirs.hashes) is alike
    assert mine.hashes == trail(trails, caller="a").hashes


def test_a_model_without_affinity_has_no_trails():
    """All its pools are off: nothing is hashed for it."""
    assert trail(make_trails("off", "off")) is None


def test_a_short_prompt_has_a_trail_only_by_its_conversation():
    """The header that the configuration names; none where it names none."""
    named = [(b"x-session-id", b"one")]

    assert trail(make_trails("auto"), "short") is None
    assert trail(make_trails("auto"), "short", headers=named).session
    assert trail(make_trails("auto", header=None), "short", headers=named) is None
    other = make_trails("auto", header="X-Talk")
    assert trail(other, "short", headers=named) is None
    assert trail(other, "short", headers=[(b"x-talk", b"one")]).session


def test_each_gateway_hashes_by_a_salt_of_its_own():
    """Unless its workers share one: then it is theirs."""
    shared = Affinity()
    shared.salt = 7

    assert trail(make_trails("auto")).hashes != trail(make_trails("auto")).hashes
    first, second = (make_trails("auto", affinity=shared) for _ in range(2))
    assert trail(first).hashes == trail(second).hashes
    assert shared.salt == 7
