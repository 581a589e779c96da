"""How a command finds the admin port of the gateway that is meant."""

from pathlib import Path

import click

from gateway.config.domains import ADMIN_PORT
from gateway.config.load import load
from gateway.errors import ConfigError
from gateway.inspection.admin_client import AdminClient, admin_url

DEFAULT_URL = f"http://127.0.0.1:{ADMIN_PORT}"
URL = click.option(
    "--url", help=f"Admin port of a gateway; default: that of the file, else {DEFAULT_URL}."
)


def admin_client(path: Path, url: str | None, token: str | None) -> AdminClient:
    """A client of the gateway. path: of a configuration, which may be missing, or broken since the
    gateway started: then the admin port is the default one."""
    if url is None:
        try:
            url = admin_url(load(path).config.gateway) if path.exists() else DEFAULT_URL
        except ConfigError:
            url = DEFAULT_URL
    try:
        return AdminClient(url, token=token)
    except (KeyError, ValueError):
        raise click.BadParameter("this is no URL of a host", param_hint="--url") from None
