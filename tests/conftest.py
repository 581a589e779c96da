"""Tests what the sources say, or nothing."""

import pytest

from gateway import runtime


def pytest_configure():
    """Stale extension modules would be tested in place of their sources."""
    if warnings := runtime.stale_warnings():
        raise pytest.UsageError("\n".join(warnings))
