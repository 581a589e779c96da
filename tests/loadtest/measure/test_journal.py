"""What was measured is saved after each load, and only the same engine goes on from it."""

import msgspec
import pytest

from loadtest.measure import journal
from loadtest.measure.journal import Journal
from loadtest.measure.load import Load, LoadPoint
from loadtest.measure.subject import Subject
from planner.errors import InvalidFile

SUBJECT = Subject(
    gpu="H100", model="Llama-3-8B", engine="vllm-v1", dtype="fp16", tensor_parallel_size=1,
    served_as="llama", max_num_batched_tokens=2048,
)  # fmt: skip
POINT = LoadPoint(
    load=Load(input_tokens=100, output_tokens=50, users=8), input_tokens=101.5, output_tokens=50,
    rate=3.0, ttft_s=0.1, tpot_s=0.02, spread=1.1, seconds=9.0,
)  # fmt: skip


def test_a_measurement_goes_on_from_its_file(tmp_path):
    """What was saved is there again; without a file nothing was measured."""
    path = journal.beside(tmp_path / "h100.yaml")
    assert journal.load(path, SUBJECT) == ()

    journal.save(path, Journal(subject=SUBJECT, measured=(POINT,)))
    journal.save(path, Journal(subject=SUBJECT, measured=(POINT, POINT)))

    assert journal.load(path, SUBJECT) == (POINT, POINT)
    assert [file.name for file in tmp_path.iterdir()] == ["h100.yaml.measuring.json"]
    journal.remove(path)
    journal.remove(path)
    assert journal.load(path, SUBJECT) == ()


def test_another_engine_does_not_go_on(tmp_path):
    """Points of two engines in one profile would be of none: the fields that differ are named."""
    path = tmp_path / "a.json"
    journal.save(path, Journal(subject=SUBJECT))
    other = msgspec.structs.replace(SUBJECT, gpu="A10G", kv_tokens=1000)

    with pytest.raises(InvalidFile, match=r"gpu, kv_tokens differ"):
        journal.load(path, other)


def test_a_file_that_is_no_journal_is_not_taken_for_one(tmp_path):
    """Nor is a folder that is not there a place to write to."""
    path = tmp_path / "a.json"
    path.write_text('{"format": "else"}')

    with pytest.raises(InvalidFile, match="no measurement to go on from"):
        journal.load(path, SUBJECT)
    with pytest.raises(InvalidFile, match="cannot be written"):
        journal.save(tmp_path / "none" / "a.json", Journal(subject=SUBJECT))
