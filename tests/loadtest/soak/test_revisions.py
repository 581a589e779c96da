"""The configuration file over a soak."""

from itertools import islice
from pathlib import Path

import pytest
import yaml

from gateway.config.load import load
from gateway.errors import ConfigError
from loadtest.soak.gateway import SoakGateway
from loadtest.soak.revisions import NAMES, REFUSED, revisions


def test_each_file_can_be_used_unless_it_is_to_be_refused(tmp_path: Path):
    """All kinds of change come, and a file that is refused is one of them."""
    urls = [f"http://127.0.0.1:{port}" for port in range(18101, 18107)]
    raw = SoakGateway(tmp_path, tmp_path / "log", urls, workers=1).raw()
    path, seen = tmp_path / "soak.yaml", set()
    for name, changed in islice(revisions(1, raw), 40):
        seen.add(name)
        path.write_text(yaml.safe_dump(changed))
        if name == REFUSED:
            with pytest.raises(ConfigError):
                load(path)
        else:
            load(path)

    assert seen == set(NAMES)
