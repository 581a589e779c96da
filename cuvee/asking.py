"""How a subcommand asks the admin port of a running gateway what it cannot read there, or tells it
what to do.
"""

import asyncio
from pathlib import Path
from typing import Any

import click

from cuvee.admin import admin_client
from gateway.inspection.admin_client import AdminFault

ASKED_S = 30.0


def ask(
    path: str,
    question: Any,
    *,
    config: Path,
    url: str | None,
    token: str | None,
    longest_s: float = ASKED_S,
) -> dict[str, Any]:
    """The answer of a gateway to what is posted, an object. config, url: which gateway, as for
    `admin_client`. longest_s: that it may take. Raises ClickException, whose exit code is 1, with
    the gateway's own words if it refuses."""
    try:
        client = admin_client(config, url, token)
        status, answer = asyncio.run(client.post(path, question, longest_s=longest_s))
    except AdminFault as error:
        raise click.ClickException(str(error)) from error
    except click.BadParameter as error:  # exit code 2 means a change to some commands
        raise click.ClickException(error.format_message()) from error
    if status == 200 and isinstance(answer, dict):
        return answer
    raise click.ClickException(_words(client.url, path, status, answer))


def _words(url: str, path: str, status: int, answer: Any) -> str:
    """What a gateway says of what it refuses."""
    told = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(told, dict) and isinstance(told.get("message"), str):
        return str(told["message"])
    return f"{url}{path} answered {status}"
