"""Hits that no reply tells come from the engines' counters, and are counted once."""

import pytest

from gateway.control.unreported_hits import HALF_TOKENS, UnreportedHits
from gateway.telemetry.engine_reading import EngineReading
from gateway.telemetry.stats_schema import PoolStats, StatsDelta

MODEL = "llama-3-8b"


def reading(hits, queries):
    return EngineReading(
        running=0, waiting=0, kv_used=None, kv_tokens=None, hits=hits, queries=queries,
        sleeping=None, at_s=0.0,
    )  # fmt: skip


def counted(*counters, pool="h100"):
    hits = UnreportedHits()
    for pair in counters:
        hits.look(f"{pool}-0", pool, reading(*pair))
    return hits


def delta(inputs=1000, cached=0, **pools):
    """One request; pools: input tokens and cached tokens that each pool's replies told."""
    by_pool = {}
    for pool, (tokens, told) in (pools or {"h100": (inputs, 0)}).items():
        stats = by_pool[MODEL, "default", pool] = PoolStats.none()
        stats.input_tokens, stats.cached_tokens = tokens, told
    return StatsDelta(
        sizes={(3, 7): (1.0, float(inputs), 50.0, float(cached))},
        by_pool=by_pool,
        stays=[("h100", "h100-0", 1.0, 2.0, inputs, cached, 50)],
    )


def hits_of(found):
    return found.sizes[3, 7][3], found.stays[0][5]


def test_a_pool_has_the_share_that_its_engines_count(buckets):
    """Of what they counted since they are asked; sizes and stays get it alike."""
    hits = counted((900, 1000), (900, 1000), (6900, 11000))
    found = delta()
    hits.fill(found, buckets)

    assert hits.share("h100") == pytest.approx(0.6)
    assert hits_of(found) == (pytest.approx(600), 600)


def test_engines_of_a_pool_count_together():
    """Each by its own counters."""
    hits = UnreportedHits()
    for backend, pairs in {"a": ((0, 0), (1000, 1000)), "b": ((50, 90), (50, 3090))}.items():
        for pair in pairs:
            hits.look(backend, "h100", reading(*pair))

    assert hits.share("h100") == pytest.approx(0.25, abs=1e-3)


def test_what_replies_say_counts_instead(buckets):
    """From the first hit that a reply tells."""
    hits = counted((0, 0), (6000, 10000))
    told, later = delta(h100=(1000, 200), cached=200), delta(cached=100)
    hits.fill(told, buckets)
    hits.fill(later, buckets)

    assert hits_of(told) == (200, 200)
    assert hits_of(later) == (100, 100)


def test_a_class_in_two_pools_has_the_mean_by_tokens(buckets):
    """A size does not say where it was served."""
    hits = counted((0, 0), (8000, 10000))
    found = delta(h100=(750, 0), a10g=(250, 25), cached=25)
    hits.fill(found, buckets)

    assert hits_of(found)[0] == pytest.approx(25 + 0.8 * 750)


def test_the_choices_of_one_prompt_are_not_counted_twice(buckets):
    """The engine's counters have them too."""
    hits = counted((0, 0), (6000, 10000))
    found = delta(cached=750)
    hits.fill(found, buckets)

    assert hits_of(found) == (750, 750)


@pytest.mark.parametrize(
    "counters",
    [
        (),
        ((500, 1000),),
        ((0, 0), (None, None)),
        ((0, 0), (90, 100)),
        ((0, 0), (0, 10000)),
    ],
    ids=["nothing", "one look", "no counters", "too few", "no hits"],
)
def test_where_nothing_is_known_nothing_changes(counters, buckets):
    """As without the counters."""
    hits, found = counted(*counters), delta()
    hits.fill(found, buckets)

    assert hits_of(found) == (0, 0)


def test_an_engine_that_begins_anew_goes_on():
    """Its counters begin at zero."""
    hits = counted((5000, 10000), (8000, 20000), (2000, 5000))

    assert hits.share("h100") == pytest.approx((3000 + 2000) / 15000, abs=1e-2)


def test_old_hits_of_engines_fade():
    """Half after so many tokens."""
    n = HALF_TOKENS
    hits = counted((0, 0), (n, n), (n, 2 * n))

    assert hits.share("h100") == pytest.approx(1 / 3)


def test_who_left_is_not_compared_with_who_comes():
    """A name is never given again, but what is not needed is not kept."""
    hits = counted((0, 0), (6000, 10000))
    hits.keep(())

    assert hits._last == {}
    assert hits.share("h100") == pytest.approx(0.6)
