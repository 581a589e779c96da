"""The subcommand `serve`: options in, a gateway until a signal stops it.

Imports what serving needs and no more: a module once imported stays resident while it serves.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import uvloop

from cuvee.options import CONFIG, POSITIVE, configured
from cuvee.quick import quickly
from gateway import logs, runtime
from gateway.app import App
from gateway.config.load import Loaded
from gateway.config.posture import postures
from gateway.config.schema import GatewaySection
from gateway.service_manager import ServiceManager
from gateway.successor import Successor
from planner.errors import PlannerError

log = logging.getLogger("cuvee")

END_S = 15.0  # for the workers to end, beyond the time that requests have to finish


@click.command()
@click.argument("urls", nargs=-1, metavar="[URL[=GPU]]...")
@CONFIG
@click.option("--host", help="Overrides gateway.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Overrides gateway.port.")
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
    for posture in postures(loaded):
        log.log(logging.WARNING if posture.open else logging.INFO, posture.text)
    runtime.forbid_core_dumps()  # keys and prompts are in memory
    log.info("at most %d open files", runtime.raise_file_limit())
    runtime.return_large_blocks()
    log.info("data path: %s", runtime.data_path())
    for warning in runtime.stale_warnings():  # `cuvee overhead` and the tests refuse to run
        log.warning(warning)
    try:
        manager = ServiceManager(os.environ)
        uvloop.run(run(loaded, path, replace=replace, manager=manager))
    except (PlannerError, OSError) as error:
        raise click.ClickException(str(error)) from error


async def run(
    loaded: Loaded, path: Path, *, replace: bool = False, manager: ServiceManager
) -> None:
    """Serve until SIGTERM, SIGINT or a successor on the port, then drain; a second signal ends all
    processes at once.

    SIGHUP has the configuration file, at `path`, read again; SIGUSR2 starts the command that is
    installed now, as a successor. manager: is told of all of it.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    app = App(loaded, path=path, replace=replace, given=manager.sockets)
    successor = Successor()
    tasks: set[asyncio.Task[None]] = set()

    def begin(work: Coroutine[Any, Any, None]) -> None:
        tasks.add(task := loop.create_task(work))
        task.add_done_callback(tasks.discard)

    async def reload() -> None:
        manager.reloading(time.monotonic())
        await app.reload("SIGHUP")
        manager.ready(f"serves port {app.port}")

    def on_signal(signum: signal.Signals) -> None:
        if stop.is_set():
            log.warning("%s again: ending now, %d answers are cut", signum.name, app.in_flight)
            app.kill()
            logging.shutdown()
            os._exit(128 + signum)  # as a shell reports a process that a signal has ended
        _stopping(signum.name, loaded.config.gateway, app.in_flight, manager)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, lambda: begin(reload()))
    loop.add_signal_handler(signal.SIGUSR2, lambda: begin(successor.start()))
    async with app:
        runtime.settle()  # now that all that lives for good is built, the collector can skip it
        manager.ready(f"serves port {app.port}")
        begin(manager.attest(app.replaced))
        ends = [loop.create_task(event.wait()) for event in (stop, app.replaced)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in ends:
            task.cancel()
        if not stop.is_set():
            log.info("another gateway serves the port; requests under way may finish")
    if app.replaced.is_set():
        await manager.leave()


def _stopping(signal_name: str, settings: GatewaySection, answers: int, to: ServiceManager) -> None:
    log.info(
        "%s: not ready from now on, new requests for %g s more, then %g s at most for those "
        "under way, %d answers now; a second signal ends at once",
        signal_name, settings.drain_delay_s, settings.drain_s, answers,
    )  # fmt: skip
    patience_s = settings.drain_delay_s + settings.drain_s + END_S
    to.stopping(patience_s, f"drains, {answers} answers under way")
