"""The page that documents the command line, made from the commands themselves.

`python -m cuvee.reference > docs/cli.md`; a test keeps the two the same.
"""

import inspect
from collections.abc import Iterator

import click

from cuvee import GROUPS, main

HEAD = """\
# The command line

`cuvee --help` lists the commands in groups, `cuvee NAME --help` explains one. Where a command needs
a configuration, it takes `cuvee.yaml` of the current folder unless `--config` names another.

| exit code | meaning |
|---|---|
| 0 | it is as it should be |
| 1 | it ran, and something is wrong; what, each command says below |
| 2 | a mistake in the command or in the configuration: nothing was done |
| 130 | Ctrl-C: it was broken off, and has ended what it started |

`serve` and `emulate` finish what they have at Ctrl-C, and end with 0.

What takes long says how far it is and, where that can be known, how much time is left: on a
terminal in one line that renews itself, elsewhere in a line each ten seconds; both on standard
error. A search that ends with the first fleet that holds cannot know its end.

The shell completes commands, options and files after `cuvee completion bash` (or `zsh`, `fish`),
which prints a script and says in its help where that belongs. `cuvee schema` prints the JSON schema
of the configuration file, by which editors complete and check its keys.

This page is made from the commands, by `python -m cuvee.reference`.
"""


def manual() -> str:
    """The page in Markdown."""
    context = click.Context(main, info_name="cuvee")
    lines = [HEAD]
    for title, names in GROUPS.items():
        lines.append(f"## {title}\n")
        for name in names:
            command = main.get_command(context, name)
            assert command is not None
            lines += _command(command, click.Context(command, context, info_name=name))
    return "\n".join(lines)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    """The lines about one command, and about those below it."""
    yield f"### `{context.command_path}`\n"
    yield from _help(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, click.Context(below, context, info_name=name))
        return
    yield "```text"
    yield " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield "```\n"
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if options:
        yield "| option | meaning |"
        yield "|---|---|"
        yield from (_option(one, context) for one in options)
        yield ""


def _help(command: click.Command) -> Iterator[str]:
    """The text of `--help`; what stands after `\\b` as it is."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield f"```text\n{paragraph[2:]}\n```\n"
        else:
            yield f"{paragraph}\n"


def _option(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None  # it is not hidden
    names, text = (" ".join(part.split()).replace("|", "\\|") for part in record)
    return f"| `{names}` | {text} |"


if __name__ == "__main__":
    print(manual(), end="")
