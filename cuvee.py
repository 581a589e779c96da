"""The command `cuvee`: a table of subcommands, nothing else."""

from pkgutil import resolve_name

import click

PLANNING = {
    "plan": "gateway.commands:plan",
    "certify": "gateway.certify_command:certify_command",
    "compare": "loadtest.compare:compare",
    "sweep": "loadtest.compare:sweep",
    "dispatch": "loadtest.dispatch_command:dispatch",
    "portfolio": "gateway.commands:portfolio",
    "profile": "gateway.profile_commands:profile",
}
SERVING = {
    "check": "gateway.serve_command:check",
    "serve": "gateway.serve_command:serve",
}
TESTING = {
    "demo": "loadtest.demo:demo",
    "emulate": "loadtest.emulate:emulate",
    "replay": "loadtest.commands:replay",
    "foresight": "loadtest.foresight:foresight",
    "overhead": "loadtest.overhead:overhead",
    "bench-solve": "gateway.bench:bench_solve",
}
COMMANDS = PLANNING | SERVING | TESTING


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


if __name__ == "__main__":
    main()
