"""The command `cuvee`: a table of subcommands, nothing else."""

import click

from gateway.commands import check, plan, serve
from loadtest.commands import replay
from loadtest.demo import demo
from loadtest.emulate import emulate
from loadtest.foresight import foresight
from loadtest.overhead import overhead


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cuvee")
def main() -> None:
    """Serve LLM traffic on mixed GPUs at the lowest cost that keeps every latency promise."""


for command in (plan, check, serve, emulate, replay, demo, overhead, foresight):
    main.add_command(command)

if __name__ == "__main__":
    main()
