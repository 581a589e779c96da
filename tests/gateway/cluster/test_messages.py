"""What happened at one gateway is what the others count."""

from gateway.cluster.codec import decode, encode
from gateway.cluster.messages import (
    MOST_CALLERS,
    MOST_LESSONS,
    MOST_STAYS,
    GatewayReport,
    Outbox,
    decoded,
)
from gateway.routing.estimator_schema import Lesson
from gateway.telemetry.stats_schema import StatsDelta

LESSON = Lesson(
    model="m", caller="", endpoint="chat", prompt_bytes=1, max_tokens=None, estimated_input=1,
    input_tokens=1, output_tokens=1,
)  # fmt: skip


def delta(stays=1, callers=1):
    return StatsDelta(
        arrivals={3: 2},
        sizes={(3, 7): (2.0, 20.0, 10.0, 0.0)},
        stays=[("p", "p-0", 1.0, 2.0, 10, 0, 5)] * stays,
        uses={(f"c{n}", "m", "p"): (1, n, 1, 0.0) for n in range(callers)},
    )


def told(outbox, lessons=()):
    return decode(encode(outbox.take("g", "print", lessons)), GatewayReport)


def test_backends_are_named_by_url_on_the_way():
    """Each gateway has names of its own; a backend that another one has not is left out."""
    outbox = Outbox()
    outbox.add(delta(), {"p-0": "http://x"}, 1.0)
    report = told(outbox)

    assert report.delta({("p", "http://x"): "p-9"}).stays == [("p", "p-9", 1.0, 2.0, 10, 0, 5)]
    assert report.delta({("q", "http://x"): "q-0"}).stays == []


def test_everything_is_told_once():
    """Sums of all that was added since the last time; the least share of workers that report."""
    outbox = Outbox()
    outbox.add(delta(), {}, 1.0)
    outbox.add(delta(), {}, 0.5)
    first, second = told(outbox), told(outbox)

    assert first.arrivals == {3: 4}
    assert first.sizes == {(3, 7): (4.0, 40.0, 20.0, 0.0)}
    assert first.tokens == {"c0": 2}
    assert first.seen == 0.5
    assert (second.arrivals, second.sizes, second.tokens, second.seen) == ({}, {}, {}, 1.0)


def test_a_report_is_bounded():
    """Stays, lessons and callers; those with the most tokens are kept."""
    outbox = Outbox()
    outbox.add(delta(stays=2 * MOST_STAYS, callers=2 * MOST_CALLERS), {"p-0": "u"}, 1.0)
    report = told(outbox, (LESSON,) * (2 * MOST_LESSONS))

    assert len(report.stays) == MOST_STAYS
    assert len(report.lessons) == MOST_LESSONS
    assert len(report.tokens) == MOST_CALLERS
    assert min(report.tokens.values()) > MOST_CALLERS


def test_other_numbers_of_buckets_take_nothing_along():
    """What was counted by the old ones is dropped, the rest is told."""
    outbox = Outbox()
    outbox.add(delta(), {"p-0": "u"}, 1.0)
    outbox.forget_buckets()
    report = told(outbox)

    assert (report.arrivals, report.sizes) == ({}, {})
    assert report.stays
    assert report.tokens


def test_another_version_is_nothing():
    """It is no error of this gateway."""
    assert decoded(b"\x00rest", GatewayReport) is None
    assert decoded(None, GatewayReport) is None
