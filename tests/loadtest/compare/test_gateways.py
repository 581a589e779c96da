"""Several gateways serve a fleet about as well as one, and as fairly."""

from pathlib import Path

import pytest

from loadtest.compare.gateways import GatewaysBench
from loadtest.compare.sharing import highest_rate

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
RATE, ATTAINED = 20.0, 45.0  # requests/s: planned for, and attained by one gateway
NEVER_S = 1e6


@pytest.fixture(scope="module")
def bench():
    trace = CONFIGS / "workloads" / "azure-2023-turn.csv"
    return GatewaysBench.planned(CONFIGS / "demo.yaml", trace, rate=RATE, requests=4000, seeds=1)


@pytest.mark.long
def test_four_gateways_attain_what_one_does(bench):
    """At 97 % of the load at which one just keeps the promise; and at more than it can be served,
    nearly as much, where they would break nearly all promises without a view."""
    target = bench.slo.attainment
    single = highest_rate(lambda rate: bench.attainment(rate, 1, 0.1), RATE, target)

    assert RATE < single < 4 * RATE  # inside the bracket
    assert bench.attainment(0.97 * single, 4, 0.1) >= target
    over = [bench.attainment(50.0, *how) for how in ((1, 0.1), (4, 0.1), (4, NEVER_S))]
    assert over[1] > over[0] - 0.03
    assert over[2] < 0.6


@pytest.mark.long
@pytest.mark.parametrize("apart", [False, True])
def test_a_quiet_caller_gets_as_much_as_at_one_gateway(bench, apart):
    """Within 5 % of it, at one and a half times the load that can be served; where all callers
    reach all gateways, the crowd would take it without a view."""
    one = bench.share(1.5 * ATTAINED, 1, 0.1, apart=False)
    four = bench.share(1.5 * ATTAINED, 4, 0.1, apart=apart)

    assert four == pytest.approx(one, rel=0.05)
    if not apart:
        assert bench.share(1.5 * ATTAINED, 4, NEVER_S, apart=apart) < 0.95 * one
