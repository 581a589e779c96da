"""Several gateways let no more pass together than a key may have, whatever they hear when."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.key import AccessKey
from gateway.access.key_board import KeyBoard, doubles
from gateway.access.key_meter import KeyMeter
from gateway.cluster.codec import decode, encode
from gateway.cluster.key_frames import FRESH_S, KeyFrame, KeyLimits, SharedKeys
from gateway.errors import LimitReached

START_S = 60.0 * 1000 + 1.0
NAMES = {"team": 0}


class Union:
    """Gateways of two workers each, that speak by a store in memory."""

    def __init__(self, number: int, key: AccessKey) -> None:
        self.now_s = START_S
        self.key = key
        self.limits = KeyLimits(1)
        self.limits.most[0] = key.requests_per_minute, key.tokens_per_minute, key.concurrency
        self.boards = [
            KeyBoard(bytearray(8 * doubles(workers=2, slots=1)), workers=2, slots=1)
            for _ in range(number)
        ]
        self.shared = [SharedKeys(board) for board in self.boards]
        self.meters = [[KeyMeter(b, n, lambda: self.now_s) for n in (0, 1)] for b in self.boards]
        self.store: dict[str, bytes] = {}
        for _ in range(2):
            for gateway in range(number):
                self.exchange(gateway)

    def exchange(self, gateway: int) -> None:
        """As one step of a gateway with Redis: tell, then hear."""
        told = self.shared[gateway].told(NAMES, self.now_s)
        self.store[str(gateway)] = encode(told)
        others = {
            name: decode(data, KeyFrame)
            for name, data in self.store.items()
            if name != str(gateway)
        }
        self.shared[gateway].hear(others, NAMES, self.limits, self.now_s)

    def flood(self, gateway: int, requests: int, tokens: int = 1) -> int:
        """How many of so many requests a gateway lets in; they last."""
        passed = 0
        for n in range(requests):
            try:
                charge = self.meters[gateway][n % 2].enter(self.key, tokens)
            except LimitReached:
                continue
            charge.add(tokens)
            passed += 1
        return passed


# So often one after another: whether it exchanges, and how many requests come then.
STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 30), st.booleans(), st.integers(0, 400)),
    max_size=12,
)


@pytest.mark.long
@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_together_they_keep_the_limit(steps):
    """Floods and exchanges in any order: at most one request for each other gateway is too much."""
    union = Union(3, AccessKey(name="team", requests_per_minute=200))
    passed = 0
    for gateway, times, exchanges, requests in steps:
        for _ in range(times):
            if exchanges:
                union.exchange(gateway)
            passed += union.flood(gateway, requests)

    assert passed <= 200 + 2


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_so_it_is_with_tokens_and_slots(steps):
    """Tokens by the size of a request, slots one by one."""
    union = Union(3, AccessKey(name="team", tokens_per_minute=10_000, concurrency=60))
    passed = 0
    for gateway, times, exchanges, requests in steps:
        for _ in range(times):
            if exchanges:
                union.exchange(gateway)
            passed += union.flood(gateway, requests // 10, tokens=150)

    assert passed <= 60 + 2
    assert passed * 150 <= 10_000 + 2 * 150


def test_a_gateway_that_is_slow_to_tell_is_counted_with_its_claim():
    """What it has let in unheard is not let in again by the others, however often they speak."""
    union = Union(2, AccessKey(name="team", requests_per_minute=60))
    passed = union.flood(0, 100)
    for _ in range(50):
        passed += union.flood(1, 100)
        union.exchange(1)
    assert passed <= 60

    union.exchange(0)
    assert passed + union.flood(0, 100) <= 60


def test_the_only_slot_is_not_held_by_whoever_does_not_need_it():
    """A key of one request at a time may come by any gateway, one after another."""
    union = Union(3, AccessKey(name="team", concurrency=1))
    for n in range(9):
        meter = union.meters[n % 3][0]
        meter.leave(meter.enter(union.key, 5))
        for gateway in range(3):
            union.exchange(gateway)


def test_a_large_request_may_take_all_that_is_left():
    """Though each gateway's part is less; and none after it."""
    union = Union(2, AccessKey(name="team", tokens_per_minute=1000))
    assert union.flood(0, 1, tokens=900) == 1
    assert union.flood(0, 5, tokens=50) == 0


@pytest.mark.parametrize("gateways", [2, 4])
def test_a_gateway_that_is_used_alone_may_use_nearly_all(gateways):
    """Within some exchanges, of which there are ten in a second."""
    union = Union(gateways, AccessKey(name="team", requests_per_minute=100))
    passed = 0
    for _ in range(20 * gateways):
        passed += union.flood(0, 200)
        for gateway in range(gateways):
            union.exchange(gateway)

    assert 95 <= passed <= 100


def test_a_gateway_that_is_not_heard_of_is_no_reason_to_refuse():
    """What it had under way ends with it; what it used counts until its minute is over."""
    key = AccessKey(name="team", requests_per_minute=100, concurrency=20)
    union = Union(2, key)
    for _ in range(40):
        union.flood(1, 20)
        union.exchange(1)
        union.exchange(0)
    assert union.flood(0, 20) <= 1
    union.now_s += FRESH_S
    union.exchange(0)

    assert union.flood(0, 20) == 20


def test_another_minute_counts_as_the_one_before():
    """Gateways whose clocks differ by less than a minute, and frames from before a full one."""
    union = Union(2, AccessKey(name="team", requests_per_minute=100))
    union.flood(1, 20)
    union.exchange(1)
    union.now_s = START_S + 59.0 + 30.0
    union.exchange(0)

    lines = union.meters[0][0].lines(union.key)
    assert b"remaining-requests: " in lines
    left = int(lines.split(b"remaining-requests: ")[1].split(b"\r")[0])
    assert 85 <= left < 100
