"""How a subcommand asks the admin port of a running gateway, and tells it what to do."""

import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import click
import msgspec

from gateway.config.load import load
from gateway.config.schema import GatewaySection
from gateway.errors import ConfigError

ANYWHERE = ("", "0.0.0.0", "::")
JSON_TYPE = "application/json"


class NoAnswer(click.ClickException):
    """The admin port did not answer, or refused. status: 0 if it did not answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def ask(
    url: str, path: str, question: Any = None, *, token: str | None = None, timeout_s: float = 30.0
) -> dict[str, Any]:
    """The answer of a gateway, an object. question: is posted as JSON; `None`: a GET. Raises
    NoAnswer, with the gateway's own words if it refuses."""
    if not url.startswith(("http://", "https://")):
        raise NoAnswer("--url must start with http:// or https://")
    data = None if question is None else msgspec.json.encode(question)
    request = urllib.request.Request(url.rstrip("/") + path, data=data)
    request.add_header("content-type", JSON_TYPE)
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            return msgspec.json.decode(reply.read(), type=dict[str, Any])
    except HTTPError as error:
        raise NoAnswer(_words(url, path, error), error.code) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NoAnswer(f"{url}{path} is not that of a gateway") from error
    except (URLError, OSError, ValueError) as error:
        raise NoAnswer(f"{url} does not answer: {getattr(error, 'reason', error)}") from error


def admin_url(path: Path) -> str:
    """The admin port of a configuration, for commands on the same machine. Exits with 2 for one
    that cannot be used."""
    try:
        settings = load(path).config.gateway
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(2)
    return url_of(settings)


def url_of(settings: GatewaySection) -> str:
    """The admin port of these settings, for clients on this machine."""
    host = "127.0.0.1" if settings.admin_host in ANYWHERE else settings.admin_host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.admin_port}"


def _words(url: str, path: str, error: HTTPError) -> str:
    """What a gateway says of what it refuses."""
    if error.code == 401 or error.code == 403:
        return f"{url}{path} answered {error.code}: it asks for a token (--token)"
    try:
        told = msgspec.json.decode(error.read(), type=dict[str, Any])
        return str(told["error"]["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, OSError):
        return f"{url}{path} answered {error.code}"
