"""The text format of Prometheus, as far as a page of ours has it."""

from gateway.inspection.samples import Samples

PAGE = r"""
# TYPE a counter
a{x="1",y="p,q"} 2
a{x="2",y="with \"quotes\" and } and \\ and \n"} 3.5 1700000000
b 4e3
h_bucket{le="0.1"} 5
h_bucket{le="1"} 9
h_bucket{le="+Inf"} 10
broken{x="1"}
"""


def test_samples_sums_and_labels():
    """Labels with anything in them; what is no number is left out."""
    samples = Samples(PAGE)

    assert samples.total("a") == 5.5
    assert samples.by("x", "a") == {"1": 2.0, "2": 3.5}
    assert samples.value("b") == 4000.0
    assert samples.value("c") is None
    assert samples.total("broken") == 0
    [(labels, _)] = samples.of("a", x="2")
    assert labels["y"] == 'with "quotes" and } and \\ and \n'


def test_quantiles_are_the_edges_of_their_buckets():
    """`None` where nothing was observed."""
    samples = Samples(PAGE)

    assert samples.quantile(0.5, "h") == 0.1
    assert samples.quantile(0.9, "h") == 1.0
    assert samples.quantile(0.99, "h") == float("inf")
    assert samples.quantile(0.5, "nothing") is None
