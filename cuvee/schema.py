"""The subcommand `schema`: the JSON schema of the configuration file."""

import click

from gateway.config.json_schema import text


@click.command()
def schema() -> None:
    """Print the JSON schema of the configuration file.

    Editors complete and check keys by it. The same file ships as configs/schema.json. The first
    line of a configuration names it, for those that follow the YAML language server:

    \b
    # yaml-language-server: $schema=PATH-OR-URL
    """
    click.echo(text(), nl=False)
