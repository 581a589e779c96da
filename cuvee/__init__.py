"""The command line: one file per subcommand, each imported when it is asked for.

A subcommand's file owns its options and what it prints; what computes lives in the other packages.
This file owns the table of subcommands, how a list of them looks, and how a command ends that a
person breaks off or whose output has no room. It must not import any of them.
"""

import errno
import os
import signal
import sys
from contextlib import suppress
from pkgutil import resolve_name
from typing import Any

import click
from click.shell_completion import CompletionItem

# With a line for each, so that help and completion import no command: all of them take a second and
# more. A test holds these lines equal to those of the commands.
GROUPS: dict[str, dict[str, str]] = {
    "Serve": {
        "init": "Ask engines what they are, and write a configuration.",
        "check": "Validate a configuration file.",
        "doctor": "Look for what is wrong, before and after the start.",
        "serve": "Run the gateway.",
        "status": "Show a running gateway on one screen.",
        "top": "Watch a running gateway.",
        "keys": "Add, list and revoke the keys of clients.",
        "explain": "Say where a request would go and why; or what became of one.",
        "history": "Show what the gateway has decided, why, and what came of it.",
    },
    "Plan": {
        "advise": "Say what Cuvée would save of the engines that run today.",
        "plan": "Find the cheapest fleet for a workload.",
        "certify": "Find the cheapest plan whose SLO attainment is proven by simulation.",
        "portfolio": "Decide what to commit to.",
        "trace": "Make traces from the traffic that you have.",
    },
    "Prove": {
        "demo": "Show the whole loop on this machine, without a GPU, in under three minutes.",
        "demo-scale": "Show a fleet that moves with its traffic, without a GPU.",
        "emulate": "Run one emulated vLLM backend, without a GPU.",
        "soak": "Send traffic through a gateway whose engines fail; compare all ledgers.",
        "torture": "Play the real gateway in a simulated world of faults.",
    },
    "Measure": {
        "profile": "Make profiles of what a backend can do, and judge them.",
        "replay": "Send a trace to a server, and measure TTFT, TPOT and errors.",
        "overhead": "Measure CPU, latency and memory beside other proxies, and beside none.",
    },
    "For editors and shells": {
        "completion": "Print the script by which a shell completes commands and options.",
        "schema": "Print the JSON schema of the configuration file.",
    },
    "For research": {
        "affinity": "Compare ways to choose a backend by hits of prefix caches.",
        "bench-solve": "Time the planner on made-up problems of several sizes.",
        "compare": "Put Cuvée's plan beside those of Mélange, AIBrix and single GPU types.",
        "dispatch": "Compare dispatch policies by the load that one plan can use.",
        "foresight": "Measure how well output lengths are predicted, and what errors cost.",
        "overload": "Play more work than capacity, with the gateway's own admission.",
        "scaling": "Compare autoscalers on 14 days of demand.",
        "sweep": "Compare costs of fleets over rates and TPOT targets.",
    },
}
COMMANDS = {
    name: f"cuvee.{name.replace('-', '_')}:{name.replace('-', '_')}"
    for group in GROUPS.values()
    for name in group
}
BROKEN_OFF = 130  # exit code, as a shell reports a process that SIGINT has ended
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
SILENT = {"serve", "emulate"}  # they work without a standard output, as daemons are started


class CommandTable(click.Group):
    """Subcommands by name, imported late: a gateway must hold in memory only what serving needs.

    An idle `cuvee serve` took 124 MiB with all commands and the solver imported, 75 without them.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run from the command line. Output that cannot be written, as on a full disk, is one line
        and 1; a pipe whose reader has gone is 1 without a word, as click does it: so ends `head`.
        """
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            with suppress(OSError):  # standard error may be the same full disk
                click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
            with suppress(OSError):  # what is left in the buffer would fail again at the exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    def invoke(self, context: click.Context) -> Any:
        """Run a command. One that Ctrl-C breaks off, or a question that it was, ends with 130 and
        one line; what was started has ended by then."""
        try:
            return super().invoke(context)
        except (KeyboardInterrupt, click.Abort):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would show its way out
            click.echo("Aborted!", err=True)
            context.exit(BROKEN_OFF)

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = resolve_name(COMMANDS[name])
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in their groups; the first column is as wide in all of them."""
        widest = max(map(len, COMMANDS))
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{widest}}", line) for name, line in group.items()])

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names that begin so, each with its line, and the options of `cuvee` itself."""
        lines = {name: line for group in GROUPS.values() for name, line in group.items()}
        items = [
            CompletionItem(name, help=lines[name])
            for name in sorted(COMMANDS)
            if name.startswith(incomplete)
        ]
        return [*items, *click.Command.shell_complete(self, context, incomplete)]


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cuvee")
@click.pass_context
def main(context: click.Context) -> None:
    """Serve LLM traffic on mixed GPUs at the lowest cost that keeps every latency promise.

    Begin with `cuvee init`. Where a command needs a configuration, it takes cuvee.yaml of this
    folder if no other is named.
    """
    # Else an answer would be lost unseen, and the first socket would get the number of the output.
    if sys.stdout is None and context.invoked_subcommand not in SILENT:
        raise click.ClickException("the output cannot be written: it is closed")
