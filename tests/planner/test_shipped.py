"""Where shipped data lies, and which values of a configuration are names."""

from pathlib import Path

import pytest

from planner import shipped
from planner.errors import InvalidValue


def test_a_checkout_s_own_data_is_found():
    """The folder beside the packages, with the data that a name may mean."""
    assert shipped.folder() == Path(__file__).resolve().parents[2] / "configs"
    assert "llama-3-8b/H100" in shipped.shelf("profiles")
    assert list(shipped.shelf("prices")) == ["aws-2026-07"]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("own.yaml", True), ("no.yaml", True), ("a/config.json", True), ("A.YML", True),
        ("plain", True), ("llama-3-8b/H100", False), ("folder", False), ("qwen2.5-7b/L4", False),
    ],
)  # fmt: skip
def test_a_path_ends_like_one_or_is_a_file(tmp_path: Path, value: str, path: bool):
    """A name may look like a folder; a file without an ending is a path where it exists."""
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()

    assert shipped.is_path(value, tmp_path) is path


def test_a_name_is_found_in_any_case_and_a_path_relative_to_its_root(tmp_path: Path):
    """Names do not depend on the folder of the configuration, paths do."""
    named = shipped.located("AWS-2026-07", tmp_path, "prices")

    assert named == shipped.folder() / "prices" / "aws-2026-07.yaml"
    assert shipped.located("own.yaml", tmp_path, "prices") == tmp_path / "own.yaml"


def test_a_workload_is_found_by_its_name():
    """In any case; an unknown name proposes what is near it."""
    assert shipped.workload("Chat") == shipped.folder() / "workloads" / "chat.csv"
    with pytest.raises(InvalidValue, match="unknown `chats`; did you mean chat"):
        shipped.workload("chats")


def test_a_value_can_be_moved_to_another_folder(tmp_path: Path):
    """A path becomes absolute; a name stays what it is."""
    assert shipped.absolute("own.yaml", tmp_path) == str(tmp_path.resolve() / "own.yaml")
    assert shipped.absolute("aws-2026-07", tmp_path) == "aws-2026-07"


def test_an_unknown_name_lists_what_is_near_it():
    """One proposal or several; where nothing is near, the known names, but not hundreds."""
    with pytest.raises(InvalidValue, match="unknown `aws-2025-07`; did you mean aws-2026-07"):
        shipped.located("aws-2025-07", Path(), "prices")
    assert shipped.unknown("a100", ["A100-40G", "A100-80G", "L4"]) == (
        "unknown `a100`; did you mean A100-80G or A100-40G?"
    )
    assert shipped.unknown("x", ["L4", "a10g"]) == "unknown `x`; known are a10g, L4."
    assert "and 80 more" in shipped.unknown("x", [f"name{n}" for n in range(100)])
