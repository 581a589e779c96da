"""The subcommand `serve`: options in, a gateway until a signal stops it.

Imports what serving needs and no more: a module once imported stays resident while it serves.
"""

import asyncio
import logging
import os
import signal
from pathlib import Path

import click
import uvloop

from cuvee.options import CONFIG, POSITIVE, configured
from cuvee.quick import quickly
from gateway import logs, runtime
from gateway.app import App
from gateway.config.load import Loaded
from planner.errors import PlannerError

log = logging.getLogger("cuvee")


@click.command()
@click.argument("urls", nargs=-1, metavar="[URL[=GPU]]...")
@CONFIG
@click.option("--host", help="Overrides gateway.host.")
@click.option("--port", type=int, help="Overrides gateway.port.")
@click.option("--quick", is_flag=True, help="Serve engines given by URL, without a file.")
@click.option("--gpu", help="With --quick: GPU of the engines, as H100 or 2xH100.")
@click.option("--ttft", "ttft_s", type=POSITIVE, help="With --quick: TTFT target in seconds.")
@click.option("--tpot", "tpot_s", type=POSITIVE, help="With --quick: TPOT target in seconds.")
@click.option(
    "--replace",
    is_flag=True,
    help="Take the port over from the gateway that serves it, which then drains.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def serve(
    urls: tuple[str, ...],
    path: Path,
    host: str | None,
    port: int | None,
    quick: bool,
    gpu: str | None,
    ttft_s: float | None,
    tpot_s: float | None,
    replace: bool,
    log_level: str,
) -> None:
    """Run the gateway.

    Serves the OpenAI API in front of the configured backends until SIGTERM or SIGINT, then lets
    running requests finish (gateway.drain_s). With --quick URL... it asks the engines there what
    they are and serves at once; what nobody told it assumes, and says so. `cuvee init` writes the
    same as a file.
    """
    runtime.hold_standard_files()
    if quick != bool(urls):
        raise click.UsageError("--quick and the URLs of engines go together")
    if not quick:
        if gpu or ttft_s or tpot_s:
            raise click.UsageError(
                "--gpu, --ttft and --tpot are for --quick; else the file has them"
            )
        begin(configured(path, host=host, port=port), path, replace=replace, log_level=log_level)
        return
    with quickly(urls, gpu=gpu, ttft_s=ttft_s, tpot_s=tpot_s) as path:
        begin(configured(path, host=host, port=port), path, replace=replace, log_level=log_level)


def begin(loaded: Loaded, path: Path, *, replace: bool, log_level: str) -> None:
    """Serve with a configuration, in this process and those that it starts."""
    settings = loaded.config.gateway
    process = "supervisor" if settings.workers > 1 else ""
    logs.begin(settings.log_format, log_level.upper(), process=process)
    for warning in loaded.warnings:
        log.warning(warning)
    log.info("at most %d open files", runtime.raise_file_limit())
    runtime.return_large_blocks()
    log.info("data path: %s", runtime.data_path())
    for warning in runtime.stale_warnings():  # `cuvee overhead` and the tests refuse to run
        log.warning(warning)
    try:
        uvloop.run(run(loaded, path, replace=replace))
    except (PlannerError, OSError) as error:
        raise click.ClickException(str(error)) from error


async def run(loaded: Loaded, path: Path, *, replace: bool = False) -> None:
    """Serve until SIGTERM, SIGINT or a successor on the port, then drain; a second signal ends all
    processes at once.

    SIGHUP has the configuration file, at `path`, read again.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    app = App(loaded, path=path, replace=replace)
    reloads: set[asyncio.Task[None]] = set()

    def on_hangup() -> None:
        reloads.add(task := loop.create_task(app.reload("SIGHUP")))
        task.add_done_callback(reloads.discard)

    def on_signal(signum: signal.Signals) -> None:
        if stop.is_set():
            log.warning("%s again: ending now, %d answers are cut", signum.name, app.in_flight)
            app.kill()
            logging.shutdown()
            os._exit(128 + signum)  # as a shell reports a process that a signal has ended
        settings = loaded.config.gateway
        log.info(
            "%s: not ready from now on, new requests for %g s more, then %g s at most for those "
            "under way, %d answers now; a second signal ends at once",
            signum.name, settings.drain_delay_s, settings.drain_s, app.in_flight,
        )  # fmt: skip
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    async with app:
        runtime.settle()  # now that all that lives for good is built, the collector can skip it
        ends = [loop.create_task(event.wait()) for event in (stop, app.replaced)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in ends:
            task.cancel()
        if not stop.is_set():
            log.info("another gateway serves the port; requests under way may finish")
