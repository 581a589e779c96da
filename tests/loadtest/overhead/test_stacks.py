"""Collapsed stacks, summed up by module."""

from collections import Counter
from pathlib import Path

import pytest

from loadtest.overhead import stacks


def test_time_goes_to_the_module_whose_code_ran():
    """The innermost function counts, whatever called it; shares are of the measured CPU time."""
    counts = Counter({"a:f;b:g": 60, "a:f": 30, "a:h;a:f;b:k": 10})

    modules = stacks.share_by_module(counts, cpu_us=50.0)

    assert [(s.name, s.share, s.us) for s in modules] == [("b", 0.7, 35.0), ("a", 0.3, 15.0)]
    assert modules[0].functions == (("g", 0.6), ("k", 0.1))


def test_small_modules_are_summed_up():
    """Nothing is dropped: what is too small to show is in the last figure."""
    counts = Counter({"a:f": 980, **{f"m{index}:f": 5 for index in range(4)}})

    modules = stacks.share_by_module(counts, cpu_us=100.0)

    assert [s.name for s in modules] == ["a", stacks.OTHERS]
    assert sum(s.us for s in modules) == pytest.approx(100.0)


def test_nothing_sampled_is_no_module():
    """An idle gateway has no profile."""
    assert stacks.share_by_module(Counter(), cpu_us=0.0) == ()


def test_collapsed_stacks_are_read_back(tmp_path: Path):
    """The file is what flame graph tools read: a stack, a space, a count."""
    path = tmp_path / "stacks"
    path.write_text("(event loop):poll, read 7\na:f;b:g 2\n")

    assert stacks.read_stacks(path) == {"(event loop):poll, read": 7, "a:f;b:g": 2}
