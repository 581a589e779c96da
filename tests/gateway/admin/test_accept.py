"""Which of two formats a client gets."""

import pytest

from gateway.admin.accept import prefers

KIND = "application/openmetrics-text"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
VICTORIA = "text/plain;version=0.0.4;q=1,*/*;q=0.1"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("Application/OpenMetrics-Text; Version=1.0.0", True),
        ("application/openmetrics-text", True),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.9", True),
        (VICTORIA, False),
        ("", False),
        ("*/*", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.4, text/plain", False),
        ("application/openmetrics-text;version=2.0.0, text/plain;q=0.1", False),
        ("application/openmetrics-text;q=x", False),
        ("application/openmetrics-text;q=nan", False),
        (";;,=,q=1", False),
    ],
)
def test_who_asks_for_it_gets_it_and_nobody_else(accept, wanted):
    """Without a word, or where it cannot be understood, all stays as it was."""
    assert prefers(accept, KIND) is wanted
