"""What was learned survives a restart, and a bad file is no reason not to start."""

import pytest

from gateway.actuation.memory import LearnedState, read_state, write_state


async def test_what_was_written_is_read(tmp_path):
    """The forecast's values and the starts, as they were."""
    path = tmp_path / "state.json"
    await write_state(path, LearnedState(forecast={"a": [1.5]}, starts={"p": {"whole": [3.0]}}))

    again = read_state(path)
    assert again.forecast == {"a": [1.5]}
    assert again.starts == {"p": {"whole": [3.0]}}
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"starts": 3}', b"\xff"])
def test_a_file_that_cannot_be_used_is_told_and_left_out(tmp_path, caplog, text):
    """All is learned anew."""
    path = tmp_path / "state.json"
    path.write_bytes(text)

    assert read_state(path).starts == {}
    assert "is not used" in caplog.text
    caplog.clear()
    assert read_state(tmp_path / "none.json").starts == read_state(None).starts == {}
    assert caplog.text == ""


async def test_a_folder_that_cannot_be_written_is_told(tmp_path, caplog):
    """The loop goes on."""
    await write_state(tmp_path / "gone" / "state.json", LearnedState())

    assert "cannot be written" in caplog.text
