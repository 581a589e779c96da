"""What `serve --quick` serves: a configuration made of what engines say, kept while it serves."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from cuvee.drafting import promised, write
from cuvee.options import DEFAULT_CONFIG
from cuvee.seating import Asking, gpu_label, places, seated
from gateway.errors import ConfigError
from gateway.preflight.draft import drafted
from gateway.preflight.draft_text import KEY_ENVIRONMENT
from planner.errors import PlannerError


@contextmanager
def quickly(
    urls: Sequence[str], *, gpu: str | None, ttft_s: float | None, tpot_s: float | None
) -> Iterator[Path]:
    """The path of a configuration for these engines, in a folder that lasts as long as the context.

    Prints what is assumed on standard error. Exits with 1 if an engine cannot be asked.
    """
    key = os.environ.get(KEY_ENVIRONMENT)
    asking = Asking(gpu=gpu_label(gpu) if gpu else None, key=key, guess=True)
    with tempfile.TemporaryDirectory(prefix="cuvee-quick-") as folder:
        path = Path(folder) / DEFAULT_CONFIG
        try:
            engines = seated(places(urls), asking)
            parts = drafted(engines, promised(ttft_s, tpot_s))
            write(parts, path, keyed=key is not None)
        except ConfigError as error:
            raise click.ClickException("\n".join(error.problems)) from error
        except (PlannerError, OSError) as error:
            raise click.ClickException(str(error)) from error
        gpus = "" if gpu else " (--gpu, or URL=GPU, says another)"
        for pool in parts.pools:
            click.echo(
                f"assumed: {pool.name}: {len(pool.engines)} × {pool.built.gpu_label}{gpus}",
                err=True,
            )
        for line in parts.assumed:
            click.echo(f"assumed: {line}", err=True)
        click.echo(f"`cuvee init {' '.join(urls)}` writes this as a file, to change it", err=True)
        yield path
