"""Who may reach a port is told at the start, with the key that changes it."""

from pathlib import Path

import pytest
import yaml

from gateway.config.load import load
from gateway.config.posture import is_loopback, postures

DEMO = Path(__file__).resolve().parents[3] / "configs" / "demo.yaml"
KEY = "sk-cuvee-0123456789abcdef"


def told(folder: Path, access: object = None, **gateway: object) -> list[tuple[str, bool]]:
    """Both lines, and whether each is open."""
    raw = yaml.safe_load(DEMO.read_text()) | {"planner": {}, "access": access}
    raw["gateway"] = gateway
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    environ = {"KEYS": KEY, "TOKEN": KEY}
    return [(one.text, one.open) for one in postures(load(path, environ=environ))]


def test_what_is_open_names_the_key_that_shuts_it(tmp_path):
    """By default the data port is, and the admin port is not."""
    data, admin = told(tmp_path)
    assert data[1]
    assert "access.keys_file shuts it" in data[0]
    assert admin == ("admin port http://127.0.0.1:8790: for all programs of this machine", False)
    assert "access.admin_read shuts it" in told(tmp_path, admin_host="0.0.0.0")[1][0]


def test_what_needs_a_key_is_not_open(tmp_path):
    """But a key in plain text is told, where it travels."""
    access = {"keys_env": "KEYS", "admin_read": {"token_env": "TOKEN"}}
    data, admin = told(tmp_path, access, admin_host="::")

    assert not data[1]
    assert not admin[1]
    assert "one of 1 keys; keys travel in plain text" in data[0]
    assert "http://[::]:8790" in admin[0]
    assert told(tmp_path, host="127.0.0.1")[0] == (
        "data port http://127.0.0.1:8000: for all programs of this machine", False,
    )  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST."])
def test_loopback_is_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "gateway.local"])
def test_everything_else_may_be_reached(host):
    """Also by a name, of which nobody knows where it leads."""
    assert not is_loopback(host)
