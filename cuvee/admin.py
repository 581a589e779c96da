"""How a command finds the admin port of the gateway that is meant."""

import os
from pathlib import Path

import click
from click.core import ParameterSource

from gateway.config.domains import ADMIN_PORT
from gateway.config.load import load
from gateway.config.schema import GatewaySection
from gateway.config.variables import expanded
from gateway.errors import ConfigError
from gateway.inspection.admin_client import AdminClient, admin_url
from planner import files
from planner.document import read
from planner.errors import PlannerError

DEFAULT_URL = f"http://127.0.0.1:{ADMIN_PORT}"
ADDRESS = ("admin_host", "admin_port", "admin_tls")
URL = click.option(
    "--url", help=f"Admin port of a gateway; default: that of the file, else {DEFAULT_URL}."
)


def admin_client(path: Path, url: str | None, token: str | None) -> AdminClient:
    """A client of the gateway. path: of a configuration; where nobody has named it, it may be
    missing, and the admin port is the default one. Raises BadParameter."""
    if url is None:
        source = click.get_current_context().get_parameter_source("path")
        missing = source is ParameterSource.DEFAULT and not path.exists()
        url = DEFAULT_URL if missing else _url_of(path)
    try:
        return AdminClient(url, token=token)
    except (KeyError, ValueError):
        raise click.BadParameter("this is no URL of a host", param_hint="--url") from None


def _url_of(path: Path) -> str:
    """The admin port by a file, which may have got a mistake since the gateway started: then it is
    told, and only what says the port must be right. Another gateway must not be taken for this."""
    try:
        return admin_url(load(path).config.gateway)
    except ConfigError as error:
        mistake = error.problems[0]
    try:
        value = read(path).value
    except PlannerError:
        raise click.BadParameter(mistake, param_hint="--config") from None
    section = value.get("gateway", {}) if isinstance(value, dict) else None
    if not isinstance(section, dict):
        raise click.BadParameter(mistake, param_hint="--config")
    own = {key: section[key] for key in ADDRESS if key in section}
    own, unknown = expanded(own, os.environ, "gateway")
    settings, wrong = files.converted(own, GatewaySection, "gateway")
    if found := [*unknown, *wrong]:
        raise click.BadParameter(f"{path}: {found[0]}", param_hint="--config")
    click.echo(f"warning: {mistake}", err=True)
    return admin_url(settings)
