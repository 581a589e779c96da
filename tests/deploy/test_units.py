"""The units of systemd, as far as they can be read (`make test-systemd` runs them)."""

import re
import shlex
from pathlib import Path

import click
import pytest

import cuvee
from gateway.config.load import load
from gateway.config.schema import GatewaySection

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
SERVICE = (UNITS / "cuvee.service").read_text()


def values(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def test_the_sockets_are_those_of_the_configuration():
    """Of a configuration that says nothing else."""
    settings = GatewaySection()
    data = f"{settings.host}:{settings.port}"
    admin = f"{settings.admin_host}:{settings.admin_port}"

    assert values((UNITS / "cuvee.socket").read_text(), "ListenStream") == [data, admin]


@pytest.mark.parametrize("key", ["ExecStart", "ExecStartPre"])
def test_commands_exist(key: str):
    """With their options."""
    (line,) = values(SERVICE, key)
    program, name, *words = shlex.split(line)
    command = cuvee.main.get_command(click.Context(cuvee.main), name)

    assert program == "/opt/cuvee/current/bin/cuvee"
    assert command is not None
    command.make_parser(click.Context(command)).parse_args(args=words)


def test_systemd_is_told_and_tells():
    """Of the start and of successors, and stops what hangs."""
    assert values(SERVICE, "Type") == ["notify"]
    assert values(SERVICE, "NotifyAccess") == ["all"]
    assert values(SERVICE, "KillMode") == ["mixed"]
    assert int(values(SERVICE, "WatchdogSec")[0]) > 0
    settings = GatewaySection()
    assert int(values(SERVICE, "TimeoutStopSec")[0]) >= settings.drain_delay_s + settings.drain_s


def test_the_configuration_of_the_page_can_be_used(tmp_path: Path):
    """That of docs/deployment.md for machines."""
    page = (UNITS.parents[1] / "docs" / "deployment.md").read_text()
    (text,) = re.findall(r"```yaml\n(# /etc/cuvee/cuvee\.yaml\n.*?)```", page, re.DOTALL)
    (tmp_path / "cuvee.yaml").write_text(text.replace("/var/lib/cuvee", str(tmp_path)))

    assert {pool.name for pool in load(tmp_path / "cuvee.yaml").pools} == {"a10g", "a100", "h100"}
