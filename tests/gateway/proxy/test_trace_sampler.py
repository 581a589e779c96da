"""Which requests are traced."""

import pytest

from gateway.config.otel_schema import OtelSection
from gateway.proxy.http.headers import NOT_SENT
from gateway.proxy.http.request import Request
from gateway.proxy.trace_sampler import trace_sampler
from tests.gateway.proxy.test_active import active

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


def begun(sampler, told=None):
    """The trace of a request, and the `traceparent` lines that its engine gets."""
    headers = [] if told is None else [(b"traceparent", told.encode("latin-1"))]
    request = Request(
        method=b"POST", target=b"/", headers=headers, body=b"", keep_alive=True, http11=True
    )
    one = active()
    lines = b"".join(b"%b: %b\r\n" % header for header in headers) + b"x-request-id: r1\r\n"
    found = sampler.begin(one, request, lines).decode("latin-1").splitlines()
    assert "x-request-id: r1" in found
    return one.trace, [line.partition(": ")[2] for line in found if "traceparent" in line]


def sampler(share, *, follows=True, chance=7):
    section = OtelSection(endpoint="http://x", sample=share, follow_parent=follows)
    return trace_sampler(section, NOT_SENT, chance)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_of_requests_is_traced_by_chance(share):
    """Also of every second one: what comes in turns is not traced in turns."""
    chooses = sampler(share)
    traced = [begun(chooses)[0] is not None for _ in range(20_000)]

    assert sum(traced) / 20_000 == pytest.approx(share, rel=0.25)
    assert sum(traced[::2]) / 10_000 == pytest.approx(share, rel=0.35)


def test_each_trace_has_ids_of_its_own():
    """No two share one, and none is all zeros."""
    chooses = sampler(1.0)
    found = [begun(chooses)[0] for _ in range(50)]

    assert len({one.trace_id for one in found}) == 50
    assert len({one.span_id for one in found} | {one.call_id for one in found}) == 100


@pytest.mark.parametrize(
    "told",
    [
        SAMPLED,
        f"00-{TRACE}-{PARENT}-03",
        f"cc-{TRACE}-{PARENT}-01-what-comes-later",
        f" {SAMPLED} ",
    ],
)
def test_a_trace_that_is_sampled_goes_on(told):
    """Of later versions too, as far as they are known."""
    trace, lines = begun(sampler(0.0), told)

    assert (trace.trace_id.hex(), trace.parent_id.hex()) == (TRACE, PARENT)
    assert lines == [f"00-{TRACE}-{trace.call_id.hex()}-01"]


@pytest.mark.parametrize(
    "told",
    [
        "", "00", f"00-{TRACE}-{PARENT}", f"00-{TRACE}-{PARENT}-01-x", f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}-0", f"00-{TRACE}-{PARENT}-zz",
        f"00-{TRACE}-{PARENT}-01é", f"{SAMPLED},{SAMPLED}",
    ],
)  # fmt: skip
def test_what_is_no_trace_is_replaced(told):
    """By a trace of our own, or by one that is not sampled; it never reaches the engine."""
    trace, lines = begun(sampler(1.0), told)
    none, quiet = begun(sampler(0.0), told)

    assert trace.parent_id == b""
    assert lines == [f"00-{trace.trace_id.hex()}-{trace.call_id.hex()}-01"]
    assert none is None
    assert len(quiet) == 1
    assert quiet[0].endswith("-00")
    assert TRACE not in quiet[0]


def test_a_trace_that_is_not_sampled_stays_so():
    """Or, where the share decides, becomes one that is."""
    told = f"00-{TRACE}-{PARENT}-00"
    none, lines = begun(sampler(1.0), told)
    trace, _ = begun(sampler(1.0, follows=False), told)
    quiet, marked = begun(sampler(1e-9, follows=False), SAMPLED)

    assert (none, lines) == (None, [told])
    assert trace.trace_id.hex() == TRACE
    assert (quiet, marked) == (None, [told])


def test_nothing_is_done_where_nothing_can_be_traced():
    """No configuration, or no share and nobody to follow."""
    assert trace_sampler(None, NOT_SENT, 7) is None
    assert sampler(0.0, follows=False) is None
    assert sampler(0.0) is not None


def test_attempts_are_noted_and_bounded():
    """A request that is sent again and again does not grow."""
    trace, _ = begun(sampler(1.0))
    for number in range(100):
        trace.note(float(number), "a-0")

    assert len(trace.sent) == 16
    assert trace.sent[0] == (0.0, "a-0")
