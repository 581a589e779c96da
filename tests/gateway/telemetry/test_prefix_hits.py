"""Prefix hits by caller and pool."""

import pytest

from gateway.telemetry.prefix_hits import HALF_TOKENS, ROWS, PrefixHits


def test_a_caller_has_a_share_in_each_pool():
    """Tokens add up; who sends most stands first."""
    hits = PrefixHits()
    hits.add({("alice", "h100"): (1000, 600), ("bob", "h100"): (10, 0)})
    hits.add({("alice", "h100"): (1000, 600), ("alice", "a10g"): (100, 90)})

    assert hits.figures() == [
        {"caller": c, "pool": p, "prompt_tokens": n, "cached_tokens": k, "share": s}
        for c, p, n, k, s in [
            ("alice", "h100", 2000, 1200, 0.6),
            ("alice", "a10g", 100, 90, 0.9),
            ("bob", "h100", 10, 0, 0.0),
        ]
    ]


def test_old_hits_fade():
    """After the half-life in tokens what came before counts half of what came since."""
    hits = PrefixHits()
    tokens = int(HALF_TOKENS)
    hits.add({("alice", "h100"): (tokens, tokens)})
    hits.add({("alice", "h100"): (tokens, 0)})
    (row,) = hits.figures()

    assert row["share"] == pytest.approx(1 / 3, abs=1e-4)
    assert row["cached_tokens"] == tokens


def test_the_rows_are_bounded():
    """However many callers there are; the one that was silent for longest goes first."""
    hits = PrefixHits()
    for n in range(ROWS + 5):
        hits.add({(f"caller {n}", "h100"): (10, 5)})
        hits.add({("alice", "h100"): (10, 5)})
    callers = {row["caller"] for row in hits.figures()}

    assert len(callers) == ROWS
    assert {"alice", f"caller {ROWS + 4}"} < callers
    assert "caller 0" not in callers
