"""The text format, as its own library reads it."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.exposition import Family, exemplar, labelled, openmetrics, text
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


@given(TEXT, st.integers(0, 10**12) | st.floats(0, allow_nan=False, allow_infinity=False))
def test_any_label_and_value_is_read_back_from_openmetrics(label, value):
    """Whose parser is stricter: a counter has no `_total` in its family's name."""
    family = Family(Metric("x_seconds_total", "counter", 'What "it" is \\.'))
    family.add(labelled(a=label, b="plain"), value)
    (found,) = openmetrics_families(openmetrics([family]).decode())
    (sample,) = found.samples

    assert (sample.name, sample.labels) == ("x_seconds_total", {"a": label, "b": "plain"})
    assert sample.value == float(value)
    assert (found.name, found.type, found.unit) == ("x_seconds", "counter", "seconds")
    assert found.documentation == 'What "it" is \\.'


@given(st.text("abz019.-_:"))
def test_exemplars_belong_to_their_bucket_and_only_openmetrics_has_them(label):
    """Several histograms in one family, one with exemplars."""
    family = Family(Metric("x_seconds", "histogram", "What."))
    family.histogram(labelled(a="first"), (0.5, 1.0), (1, 2, 4), 9.5)
    marks = {0: exemplar(labelled(id=label[:64]), 0.25, 1.8e9), 2: exemplar("", 7.0, 1.8e9)}
    family.histogram(labelled(a="b"), (0.5, 1.0), (1, 2, 4), 9.5, marks)
    (found,) = openmetrics_families(openmetrics([family]).decode())
    (plain,) = text_string_to_metric_families(text([family]).decode())

    exemplars = {
        (s.labels["a"], s.labels["le"]): (
            s.exemplar.labels,
            s.exemplar.value,
            float(s.exemplar.timestamp),
        )
        for s in found.samples
        if s.exemplar is not None
    }
    assert exemplars == {
        ("b", "0.5"): ({"id": label[:64]}, 0.25, 1.8e9),
        ("b", "+Inf"): ({}, 7.0, 1.8e9),
    }
    assert [(s.name, s.value) for s in found.samples] == [(s.name, s.value) for s in plain.samples]
