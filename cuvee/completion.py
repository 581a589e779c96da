"""The subcommand `completion`: the script by which a shell completes commands and options."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes commands and options.

    \b
    bash: cuvee completion bash > ~/.local/share/bash-completion/completions/cuvee
    zsh:  cuvee completion zsh > FOLDER/_cuvee, where FOLDER is one of $fpath
    fish: cuvee completion fish > ~/.config/fish/completions/cuvee.fish

    It holds from the next shell on. bash needs version 4.4 or newer.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    click.echo(kind(context.find_root().command, {}, "cuvee", "_CUVEE_COMPLETE").source())
