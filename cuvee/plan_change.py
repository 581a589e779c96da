"""`cuvee plan --diff` against a plan in force or a saved one, and `--apply`.

Owns what is asked of the gateway and what is printed. Exit codes as Terraform's: 0 no change, 1 an
error, 2 a change. A mistake in the options is an error there: a script must not take it for a
change, which is what click's own code for it, 2, would say.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.asking import ask
from cuvee.options import table_columns
from cuvee.progress import Work
from planner.costs.plan_change import PlanChange, PlanJson, plan_change, plan_of
from planner.errors import InvalidFile

UNCHANGED, FAILED, CHANGED = 0, 1, 2
DIFF_FAILED = 3  # of --diff against the configured backends, where 1 and 2 say something else
SOLVE_S = 180.0  # a first solve starts a process, and may take as long as it is allowed to
NOWHERE = Path()  # the URL says it
SHOWN = 12  # buckets that move
MISTAKE = "cuvee.plan_change.mistake"  # of a context: the exit code of a mistake


class ComparingCommand(click.Command):
    """A command some of whose options give 2 a meaning: then its mistakes end with another code."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        code = mistake_code(args)
        with mistakes_end_with(code):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[MISTAKE] = code
        return context

    def invoke(self, context: click.Context) -> Any:
        with mistakes_end_with(context.meta[MISTAKE]):
            return super().invoke(context)


@contextmanager
def mistakes_end_with(code: int) -> Iterator[None]:
    """Print a mistake in the command as click does, but exit with this code."""
    try:
        yield
    except click.UsageError as error:
        error.show()
        raise click.exceptions.Exit(code) from None


def mistake_code(arguments: Sequence[str]) -> int:
    """The exit code of a mistake in these arguments, which may not be understood otherwise."""
    names = {text.partition("=")[0] for text in arguments}
    if names & {"--against", "--apply", "--url"}:
        return FAILED
    return DIFF_FAILED if "--diff" in names else click.UsageError.exit_code


def diff_running(url: str, token: str | None, *, as_json: bool) -> None:
    """Print what a gateway would plan now beside its plan in force, and exit."""
    with Work("the gateway plans"):
        told = ask("/cuvee/plan/diff", {}, config=NOWHERE, url=url, token=token, longest_s=SOLVE_S)
    if told["proposed"] is None:
        click.echo(json.dumps(told, indent=1) if as_json else f"no change: {told['why']}")
        sys.exit(UNCHANGED)
    try:
        change = plan_change(plan_of(told["in_force"]), plan_of(told["proposed"]))
    except InvalidFile as error:
        raise click.ClickException(f"{url}: {error}") from error
    show(change, why=told["why"], index=told["index"], url=url, as_json=as_json)


def apply_index(url: str | None, token: str | None, index: str, why: str, as_json: bool) -> None:
    """Put a plan in force that a diff has shown."""
    if url is None:
        raise click.ClickException("--apply needs --url, of the gateway that made the diff")
    what = {"index": index, "why": why}
    told = ask("/cuvee/plan", what, config=NOWHERE, url=url, token=token)
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        click.echo(f"plan {told['plan_id']} is in force, in place of {told['before']}")


def show(
    change: PlanChange,
    *,
    why: str = "",
    index: str | None = None,
    url: str | None = None,
    as_json: bool,
) -> None:
    """Print a change, and exit with 2 if there is one."""
    code = CHANGED if change.changes else UNCHANGED
    if as_json:
        click.echo(json.dumps(change_json(change) | {"index": index, "why": why}, indent=1))
        sys.exit(code)
    console = Console(width=table_columns(), highlight=False, markup=False)
    before, after = change.before, change.after
    head = f"plan {before.plan_id} → plan {after.plan_id}"
    console.print(head if change.changes else f"no change: {head}")
    if why:
        console.print(f"{why}.")
    console.print(_backends(change))
    console.print(_figures(before, after))
    if change.moves is None:
        console.print("The plans cut sizes otherwise: their shares do not compare.")
    elif change.moves:
        console.print(f"{change.moved:.1%} of the requests would go to another pool:")
        console.print(_moves(change))
    if index is not None and change.changes:
        console.print(f"Apply it with: cuvee plan --apply {index} --url {url}", soft_wrap=True)
    sys.exit(code)


def change_json(change: PlanChange) -> dict[str, Any]:
    """A change as plain values."""
    moves = None if change.moves is None else [asdict(move) for move in change.moves]
    return {
        "changes": change.changes,
        "before": _brief(change.before),
        "after": _brief(change.after),
        "backends": {n: list(counts) for n, counts in change.backends.items()},
        "moved": change.moved,
        "moves": moves,
    }


def _brief(plan: PlanJson) -> dict[str, Any]:
    certificate = plan.certificate
    return {
        "plan_id": plan.plan_id,
        "usd_per_hour": plan.usd_per_hour,
        "lower_bound_usd_per_hour": plan.lower_bound_usd_per_hour,
        "requests_per_s": sum(plan.rate),
        "attainment": None if certificate is None else certificate.attainment,
        "certified": certificate is not None and certificate.holds,
    }


def _backends(change: PlanChange) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("pool")
    for name in ("now", "then", ""):
        table.add_column(name, justify="right")
    for name, (now, then) in change.backends.items():
        table.add_row(name, str(now), str(then), f"{then - now:+d}" if then != now else "·")
    return table


def _figures(before: PlanJson, after: PlanJson) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for name in ("now", "then"):
        table.add_column(name, justify="right")
    table.add_row("$/h", f"{before.usd_per_hour:.2f}", f"{after.usd_per_hour:.2f}")
    bounds = (before.lower_bound_usd_per_hour, after.lower_bound_usd_per_hour)
    table.add_row("no fleet costs less than, $/h", *(f"{bound:.2f}" for bound in bounds))
    table.add_row("requests/s", *(f"{sum(one.rate):.3g}" for one in (before, after)))
    table.add_row("keep the promise, as played", *(_proof(one) for one in (before, after)))
    return table


def _proof(plan: PlanJson) -> str:
    certificate = plan.certificate
    if certificate is None:
        return "not yet played"
    sure = "" if certificate.holds else ", which is not enough"
    return f"{certificate.attainment:.2%}{sure}"


def _moves(change: PlanChange) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("size")
    for name in ("requests/s", "moved"):
        table.add_column(name, justify="right")
    for name in ("now", "then"):
        table.add_column(name, overflow="fold")
    moves = change.moves or ()
    for one in moves[:SHOWN]:
        table.add_row(
            one.what, f"{one.rate:.3g}", f"{one.moved:.0%}", _shares(one.before), _shares(one.after)
        )
    if len(moves) > SHOWN:
        table.add_row(f"and {len(moves) - SHOWN} more", "", "", "", "")
    return table


def _shares(shares: Mapping[str, float]) -> str:
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{pool} {share:.0%}" for pool, share in ranked) or "no pool"
