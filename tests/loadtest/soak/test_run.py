"""A short soak over real sockets: a gateway process, scripted engines and all kinds of clients."""

from pathlib import Path

import pytest

from loadtest.soak.faults import EngineFault
from loadtest.soak.run import SoakOptions, soak


@pytest.mark.long
async def test_all_ledgers_agree_after_a_short_soak(tmp_path: Path):
    """Every request is accounted for by its client, the gateway and the engines."""
    ended: list[int] = []
    options = SoakOptions(requests=600, seconds=10.0, seed=5, faults=tuple(EngineFault))

    result = await soak(options, tmp_path / "log", ended.append)

    assert result.disagreements == ()
    assert result.sent == sum(result.endings.values()) == 600
    assert result.endings["served"] > 400
    assert result.statuses[200] >= result.endings["served"]
    assert ended[-1] <= 600
    assert result.faults  # the first period of this seed has two bad engines
