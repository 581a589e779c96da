"""What a proxy is started with."""

from pathlib import Path

import pytest

from loadtest.overhead.peers import ProxySettings


@pytest.fixture
def settings(tmp_path: Path) -> ProxySettings:
    return ProxySettings(
        port=8080,
        backend="127.0.0.2:9000",
        spare_port=8081,
        folder=tmp_path,
        open_files=20_000,
        threads=1,
    )
