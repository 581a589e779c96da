"""The command line: one file per subcommand, each imported when it is asked for.

A subcommand's file owns its options and what it prints; what computes lives in the other packages.
This file owns the table of subcommands, and must not import any of them.
"""

from pkgutil import resolve_name

import click

COMMANDS = {
    name: f"cuvee.{name.replace('-', '_')}:{name.replace('-', '_')}"
    for name in (
        "advise", "affinity", "bench-solve", "certify", "check", "compare", "demo", "demo-scale",
        "dispatch", "emulate", "explain", "foresight", "history", "overhead", "overload", "plan",
        "portfolio", "profile", "replay", "scaling", "serve", "soak", "sweep", "torture", "trace",
    )
}  # fmt: skip


class CommandTable(click.Group):
    """Subcommands by name, imported late: a gateway must hold in memory only what serving needs.

    An idle `cuvee serve` took 124 MiB with all commands and the solver imported, 75 without them.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = resolve_name(COMMANDS[name])
        return command


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cuvee")
def main() -> None:
    """Serve LLM traffic on mixed GPUs at the lowest cost that keeps every latency promise."""
