"""What one gateway tells of its load is what the others add."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.codec import CodecError
from gateway.cluster.load_frame import (
    MOST_CALLERS,
    LoadFrame,
    backend_keys,
    packed,
    summed,
    unpacked,
    zone_key,
)
from gateway.routing.backend import FIRST_LOAD, FIRST_PRESENT, WIDTH
from gateway.routing.shared_queue import CALLERS, POOLS

PRINT, OTHER = b"12345678", b"87654321"
BACKENDS = [("p", "http://x"), ("p", "http://y"), ("q", "http://x")]


def row(in_flight, load, present=1, own=0):
    cells = np.zeros(WIDTH)
    cells[0], cells[1], cells[2] = in_flight, 0.5, 0.25
    cells[FIRST_LOAD + own], cells[FIRST_PRESENT + own] = load, present
    return cells


def frame(rows, backends=BACKENDS, print_=PRINT, tokens=None, claims=None, number=1):
    return LoadFrame(
        number=number,
        print=print_,
        keys=backend_keys(backends),
        sums=np.array(rows).reshape(-1, WIDTH),
        tokens=np.zeros(CALLERS) if tokens is None else tokens,
        claims=np.zeros((POOLS, 3)) if claims is None else claims,
        rate=2.5,
        zone=zone_key("z"),
    )


def test_sums_come_to_the_right_backend_in_any_order():
    """By pool and URL; one that is not known here is left out, one that has nothing not sent."""
    one = unpacked(packed(frame([row(1, 0.5), np.zeros(WIDTH), row(2, 0.25, own=3)])))
    two = unpacked(packed(frame([row(4, 0.5)], [("gone", "http://z")])))
    held = summed([one, one, two], backend_keys(BACKENDS[::-1]), PRINT)

    assert len(one.keys) == 2
    assert held.sums[:, 0].tolist() == [4, 0, 2]
    assert held.sums[0, FIRST_LOAD + 3] == 0.5
    assert held.sums[2, FIRST_PRESENT] == 2
    assert (one.number, one.rate, one.zone) == (1, 2.5, zone_key("z"))


def test_classes_of_another_configuration_are_not_mixed_up():
    """Their greatest load stands for each class, and nobody is present."""
    strange = frame([row(1, 0.5, own=2)], BACKENDS[:1], print_=OTHER)
    held = summed([unpacked(packed(strange))], backend_keys(BACKENDS), PRINT)

    assert held.sums[0, 0] == 1
    assert set(held.sums[0, FIRST_LOAD:FIRST_PRESENT]) == {0.5}
    assert not held.sums[0, FIRST_PRESENT:].any()


def test_the_hottest_callers_are_told():
    """A bounded number; tokens of all gateways add up."""
    tokens = np.arange(CALLERS, dtype=float)
    one = unpacked(packed(frame([], [], tokens=tokens)))
    held = summed([one, one], backend_keys(()), PRINT)

    assert np.count_nonzero(one.tokens) == MOST_CALLERS
    assert held.tokens[-1] == 2 * (CALLERS - 1)


def test_who_waits_elsewhere_comes_first_by_class_and_by_tokens():
    """The strictest, then the caller with the fewest tokens by a margin; not of another
    configuration, whose pools have other numbers."""
    low, high, strict = (np.zeros((POOLS, 3)) for _ in range(3))
    low[2], high[2], strict[5] = (2, 10.0, 0.5), (2, 90.0, 0.1), (1, 50.0, 0.2)
    frames = [unpacked(packed(frame([], [], claims=claims))) for claims in (high, low, strict)]
    frames.append(unpacked(packed(frame([], [], claims=low + 0.0, print_=OTHER))))
    held = summed(frames[:3], backend_keys(()), PRINT)

    assert held.claims[2, 0] == 2
    assert 10.0 < held.claims[2, 1] < 20.0
    assert held.claims[5, 0] == 1
    assert not summed(frames[3:], backend_keys(()), PRINT).claims.any()


@given(st.binary(max_size=120))
def test_any_bytes_are_a_frame_or_a_codec_error(data):
    """Whatever Redis has there."""
    for text in (data, packed(frame([row(1, 0.5)], BACKENDS[:1]))[: len(data)] + data):
        with suppress(CodecError):
            unpacked(text)


def test_numbers_that_are_none_do_no_harm():
    """A frame with infinities in it counts as empty there."""
    bad = frame([row(1, np.inf)], BACKENDS[:1])
    held = summed([unpacked(packed(bad))], backend_keys(BACKENDS), PRINT)

    assert np.isfinite(held.sums).all()


def test_another_version_is_refused():
    """Gateways of two versions serve beside each other, and count nothing for each other."""
    data = packed(frame([row(1, 0.5)], BACKENDS[:1]))

    with pytest.raises(CodecError):
        unpacked(bytes((99,)) + data[1:])
