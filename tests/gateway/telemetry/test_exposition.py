"""The text format, as its own library reads it."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.exposition import Family, labelled, text
from gateway.telemetry.metric import Metric

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\\"\n{},='))


@given(TEXT, st.integers(0, 10**12) | st.floats(allow_nan=False))
def test_any_label_and_value_is_read_back(label, value):
    """Quotes, backslashes and new lines in a name cannot break a scrape."""
    family = Family(Metric("x_total", "counter", "What."))
    family.add(labelled(a=label, b="plain"), value)
    (found,) = text_string_to_metric_families(text([family]).decode())
    (sample,) = found.samples

    assert (sample.labels, sample.value) == ({"a": label, "b": "plain"}, float(value))
    assert (found.type, found.documentation) == ("counter", "What.")


def test_histograms_are_cumulative():
    """Each bucket counts what is under its bound; the last one is everything."""
    family = Family(Metric("x", "histogram", "What."))
    family.histogram(labelled(a="b"), (0.5, 1.0), (1, 2, 4), 9.5)
    (found,) = text_string_to_metric_families(text([family]).decode())

    assert [(s.name, s.labels.get("le"), s.value) for s in found.samples] == [
        ("x_bucket", "0.5", 1),
        ("x_bucket", "1.0", 3),
        ("x_bucket", "+Inf", 7),
        ("x_count", None, 7),
        ("x_sum", None, 9.5),
    ]
