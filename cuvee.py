"""The command `cuvee`: a table of subcommands, nothing else."""

import click

from gateway.bench import bench_solve
from gateway.certify_command import certify_command
from gateway.commands import check, plan, portfolio, serve
from gateway.profile_commands import profile
from loadtest.commands import replay
from loadtest.compare import compare, sweep
from loadtest.demo import demo
from loadtest.dispatch_command import dispatch
from loadtest.emulate import emulate
from loadtest.foresight import foresight
from loadtest.overhead import overhead


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cuvee")
def main() -> None:
    """Serve LLM traffic on mixed GPUs at the lowest cost that keeps every latency promise."""


PLANNING = (plan, certify_command, compare, sweep, dispatch, portfolio, profile)
SERVING = (check, serve)
TESTING = (demo, emulate, replay, foresight, overhead, bench_solve)

for command in (*PLANNING, *SERVING, *TESTING):
    main.add_command(command)

if __name__ == "__main__":
    main()
