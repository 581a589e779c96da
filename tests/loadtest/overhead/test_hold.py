"""How long large requests hold up small ones: every kind is answered, and none is small."""

import json

import pytest

from gateway.routing.body import read_body
from gateway.routing.endpoints import BY_PATH
from loadtest.overhead.hold import NOTHING, TOKENS, kinds, measure_holds


def test_every_kind_is_large_and_a_request():
    """Its endpoint reads it."""
    for kind, (path, body) in kinds().items():
        assert json.loads(body)["model"]
        read = read_body(body, BY_PATH[path])
        assert len(body) > TOKENS, kind
        assert read.prompt_tokens == TOKENS or read.prompt_bytes > TOKENS or read.payload


@pytest.mark.long
def test_a_short_run_measures_every_kind():
    """Without errors, and with latencies of the small requests beside each."""
    rows = measure_holds(0.5)

    assert [row.kind for row in rows] == [NOTHING, *kinds()]
    assert all(row.errors == 0 and row.small > 0 for row in rows)
    assert all((row.step_s > 0) is (row.kind != NOTHING) for row in rows)
    assert all(row.p50_s <= row.p99_s <= row.most_s for row in rows)
