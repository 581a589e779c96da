"""The tokens of callers over all gateways."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.caller_tokens import KNOWN, CallerTokens

COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 1000), max_size=5)


@given(st.lists(COUNTS, max_size=6))
def test_the_sum_does_not_depend_on_who_counted(told):
    """Own and heard counts add up; one who joins goes on from there."""
    tokens, other = CallerTokens(), CallerTokens()
    for counts in told[:3]:
        tokens.add(counts)
    other.join(tokens.totals)
    for counts in told[3:]:
        other.add(counts)

    for caller in {name for counts in told for name in counts}:
        assert other.of(caller) == sum(counts.get(caller, 0) for counts in told)
    assert other.of("nobody") == 0


def test_memory_is_bounded_and_the_greatest_are_kept():
    """However many callers there are."""
    tokens = CallerTokens()
    tokens.add({str(n): n for n in range(3 * KNOWN)})

    assert len(tokens.totals) <= KNOWN
    assert tokens.of(str(3 * KNOWN - 1)) == 3 * KNOWN - 1
