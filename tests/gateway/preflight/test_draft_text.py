"""What stands in a first configuration."""

import yaml

from gateway.preflight.draft import SeatedEngine, drafted
from gateway.preflight.draft_text import text
from gateway.preflight.introduction import Introduced


def test_what_an_engine_says_cannot_leave_its_comment():
    """Its version and its weights are for people to read, and no keys of the file."""
    told = Introduced(
        url="http://engine:8000", engine="vllm", version="1\nprices: mine", model="m",
        weights="org/Llama-3-8B\naccess: {}",
    )  # fmt: skip

    made = text(drafted([SeatedEngine(told, "H100", "Llama-3-8B")]), schema=None, keyed=False)

    found = yaml.safe_load(made)
    assert found["prices"] != "mine"
    assert "access" not in found
    assert "\\nprices: mine" in made
