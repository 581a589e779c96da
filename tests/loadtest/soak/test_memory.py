"""Growth of memory and descriptors."""

import os

import pytest

from loadtest.soak.memory import MemorySample, growth, sample


def samples(*mib: float) -> list[MemorySample]:
    return [
        MemorySample(requests=1000 * n, resident_mib=used, open_files=10)
        for n, used in enumerate(mib)
    ]


def test_growth_is_that_of_the_line_through_all_samples():
    """0.02 MiB for each 1,000 requests are 2 MiB for 100,000; a line has no error."""
    grown = growth(samples(*(50 + 0.02 * n for n in range(40))), "resident_mib")

    assert grown.slope == pytest.approx(2.0)
    assert grown.error == pytest.approx(0.0, abs=1e-9)


def test_the_warm_up_does_not_count():
    """Caches and pools fill at first."""
    grown = growth(samples(*(10 * n for n in range(10)), *([100.0] * 30)), "resident_mib")

    assert grown.slope == pytest.approx(0.0)
    assert (grown.first, grown.last, grown.most) == (100.0, 100.0, 100.0)


def test_few_samples_have_no_slope():
    """A short run says nothing about growth."""
    grown = growth(samples(50.0, 60.0, 70.0), "resident_mib")

    assert grown.slope is grown.error is None
    assert grown.last == 70.0


def test_descriptors_are_a_figure_too():
    """Each by its own name."""
    assert growth(samples(*([50.0] * 20)), "open_files").slope == pytest.approx(0.0)


def test_a_process_uses_something():
    """This one, with its children."""
    used = sample(os.getpid(), 5)

    assert used.resident_mib > 1
    assert used.open_files > 2
    assert used.requests == 5
