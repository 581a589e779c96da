"""The command `cuvee`: a table of subcommands, nothing else."""

from pkgutil import resolve_name

import click

COMMANDS = {
    name: f"cuvee.{name.replace('-', '_')}:{name.replace('-', '_')}"
    for name in (
        "bench-solve", "certify", "check", "compare", "demo", "dispatch", "emulate", "foresight",
        "overhead", "plan", "portfolio", "profile", "replay", "serve", "sweep",
    )
}  # fmt: skip


class Table(click.Group):
    """Imports a command when it is asked for: what serves keeps only what serving needs."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = resolve_name(COMMANDS[name])
        return command


@click.group(cls=Table, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cuvee")
def main() -> None:
    """Serve LLM traffic on mixed GPUs at the lowest cost that keeps every latency promise."""
