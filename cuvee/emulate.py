"""The subcommand `emulate`: options in, one emulated backend until a signal stops it."""

import asyncio
import dataclasses
import signal
from pathlib import Path
from typing import Any, Literal

import click
import uvloop

from loadtest.emulator.faults import Faults
from loadtest.emulator.kv_publisher import KvPublisher
from loadtest.emulator.server import EVENTS_PER_STEP, Emulator
from planner import shipped
from planner.engine import catalogue
from planner.engine.hardware import ENGINES, Gpu, Model
from planner.engine.profiles import FORMAT, Profile, ProfileFile, build, find_profile
from planner.errors import PlannerError

SERVER_OPTIONS = (
    "api_key", "events_per_step", "force_usage", "image_tokens", "load_tracking", "loras",
    "max_num_queued_reqs", "prefix_cache", "sleep_mode", "task", "tool_parser",
)  # fmt: skip


async def serve(emulator: Emulator, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then do what the faults say; a second signal ends it."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await emulator.start(host, port)
    click.echo(f"{emulator.model} on http://{host}:{emulator.port}")
    await stop.wait()
    stop.clear()
    again = asyncio.create_task(stop.wait())  # ends what hangs
    ending = asyncio.create_task(emulator.terminate())
    await asyncio.wait([again, ending], return_when=asyncio.FIRST_COMPLETED)
    for task in (again, ending):
        task.cancel()
    await emulator.stop()


def at_least(least: int) -> click.IntRange:
    return click.IntRange(min=least)


def known_gpu(_: click.Context, __: click.Parameter, value: str | None) -> Gpu | None:
    """The row of a GPU, by name or from a file."""
    try:
        gpu = None if value is None else catalogue.find_gpu(value, Path())
    except PlannerError as error:
        raise click.BadParameter(str(error)) from None
    if gpu is None and value is not None:
        raise click.BadParameter(shipped.unknown(value, catalogue.gpus()))
    return gpu


def known_model(_: click.Context, __: click.Parameter, value: str | None) -> Model | None:
    """The row of a model, by name or from a file."""
    try:
        model = None if value is None else catalogue.find_model(value, Path())
    except PlannerError as error:
        raise click.BadParameter(str(error)) from None
    if model is None and value is not None:
        raise click.BadParameter(shipped.unknown(value, catalogue.models()))
    return model


@click.command()
@click.option(
    "--model",
    callback=known_model,
    help="Model to emulate: a built-in name (Llama-3-8B, …), a config.json or a file of models.",
)
@click.option(
    "--gpu",
    callback=known_gpu,
    help="GPU type to emulate: a built-in name (H100, …) or a file of GPUs.",
)
@click.option(
    "--profile",
    "profile_name",
    metavar="TEXT",
    help="Profile file or built-in name (llama-3-8b/H100), instead of --model, --gpu and the "
    "engine's limits.",
)
@click.option("--engine", type=click.Choice(tuple(ENGINES)), help="Its pace and metrics.")
@click.option("--dtype", type=click.Choice(("fp16", "bf16", "fp8")), help="Weights and KV.")
@click.option("--tensor-parallel-size", type=at_least(1), help="GPUs per engine.")
@click.option("--max-num-seqs", type=at_least(1), help="Most requests in the batch.")
@click.option("--max-num-batched-tokens", type=at_least(1), help="Tokens per iteration.")
@click.option("--max-model-len", type=at_least(2), help="Longest context, prompt and output.")
@click.option(
    "--max-num-queued-reqs", type=at_least(0), help="Refuse (503) beyond so many requests."
)
@click.option(
    "--prefix-cache",
    is_flag=True,
    help="Do not compute again how earlier prompts began, and tell the hits in the usage.",
)
@click.option(
    "--kv-events-port",
    type=click.IntRange(0, 65535),
    help="Publish what happens in the prefix cache there, over ZeroMQ.",
)
@click.option(
    "--kv-events-replay-port",
    type=click.IntRange(0, 65535),
    help="Send events again that are asked for there.",
)
@click.option("--api-key", help="Refuse (401) requests below /v1 without it.")
@click.option(
    "--served-model-name",
    "served_names",
    multiple=True,
    help="Name in the API; several for aliases.  [default: the model's]",
)
@click.option(
    "--lora", "loras", multiple=True, metavar="NAME", help="An adapter, served under this name."
)
@click.option(
    "--image-tokens", type=at_least(1), help="Take pictures; tokens of each.  [default: none]"
)
@click.option(
    "--enable-auto-tool-choice",
    "tool_parser",
    is_flag=True,
    help="Call a tool where the choice is the model's.",
)
@click.option(
    "--enable-force-include-usage",
    "force_usage",
    is_flag=True,
    help="Put the usage on every chunk of every stream.",
)
@click.option(
    "--events-per-step",
    type=at_least(1),
    default=EVENTS_PER_STEP,
    show_default=True,
    help="With more sequences in the batch, an event carries several tokens.",
)
@click.option(
    "--enable-server-load-tracking", "load_tracking", is_flag=True, help="Let /load count."
)
@click.option(
    "--task",
    type=click.Choice(("generate", "embed", "both")),
    default="generate",
    show_default=True,
    help="What it has paths for: chats and completions, /v1/embeddings, or both, as no vLLM has.",
)
@click.option(
    "--enable-sleep-mode",
    "sleep_mode",
    is_flag=True,
    help="Serve /sleep, /wake_up and /is_sleeping, as vLLM in development mode.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0: any free one; it is printed.",
)
@click.option("--start-delay", "start_delay_s", default=0.0, help="Fault: seconds until ready.")
@click.option("--every", default=1, help="Faults hit every N-th request.", show_default=True)
@click.option("--status", type=click.Choice(("500", "503")), help="Fault: answer with an error.")
@click.option("--die-before-headers", is_flag=True, help="Fault: close without an answer.")
@click.option("--die-after", type=at_least(0), help="Fault: close after N tokens.")
@click.option("--stall-after", type=at_least(0), help="Fault: go silent after N tokens, stay open.")
@click.option("--error-after", type=at_least(0), help="Fault: error event after N tokens.")
@click.option(
    "--on-term",
    type=click.Choice(("reset", "abort", "hang", "drain")),
    default="reset",
    show_default=True,
    help="What SIGTERM does with requests under way.",
)
@click.option("--trickle", is_flag=True, help="Fault: streams one byte at a time.")
def emulate(
    host: str,
    port: int,
    profile_name: str | None,
    served_names: tuple[str, ...],
    kv_events_port: int | None,
    kv_events_replay_port: int | None,
    **options: Any,
) -> None:
    """Run one emulated vLLM backend, without a GPU.

    The real API, at the pace of the engine model.

    \b
    cuvee emulate --model Llama-3-8B --gpu H100 --port 8001
    curl localhost:8001/v1/completions -H 'content-type: application/json' -d
      '{"prompt": "hello", "max_tokens": 9, "stream": true}'

    Tokens are words. A request says with "vllm_xargs": {"output_tokens": N} after how many tokens
    the model stops by itself; otherwise that follows from the body. What is said is made up: words,
    or with tools and schemas JSON that fits. Stop strings end it; other sampling parameters are
    checked and change nothing.
    """
    # The options named like fields of Faults are the faults, some are the server's; what is left
    # describes the engine.
    names = {field.name for field in dataclasses.fields(Faults)} - {"status"}
    fault = {name: options.pop(name) for name in names}
    # click's choices are strings, the status is a number.
    status: Literal[500, 503] | None = {"500": 500, "503": 503, None: None}[options.pop("status")]
    server = {name: options.pop(name) for name in SERVER_OPTIONS}
    publisher = None
    if kv_events_port is not None:
        if not server["prefix_cache"]:
            raise click.UsageError("--kv-events-port needs --prefix-cache")
        publisher = KvPublisher(kv_events_port, kv_events_replay_port)
    try:
        profile = emulated_profile(profile_name, options)
        name, *aliases = served_names or (profile.model,)
        emulator = Emulator(
            profile,
            name,
            aliases=aliases,
            faults=Faults(status=status, **fault),
            engine=options.get("engine") or "vllm",
            kv_publisher=publisher,
            **server,
        )
        uvloop.run(serve(emulator, host, port))
    except (PlannerError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error


def emulated_profile(profile_name: str | None, options: dict[str, Any]) -> Profile:
    """The engine's profile, from a profile's name or file, or from single options.

    Raises UsageError.
    """
    fields = {name: value for name, value in options.items() if value is not None}
    if profile_name is not None:
        if fields:
            raise click.UsageError(f"--profile excludes {', '.join(sorted(fields))}")
        return find_profile(profile_name, Path())
    if "model" not in fields or "gpu" not in fields:
        raise click.UsageError("give --model and --gpu, or --profile")
    return build(ProfileFile(format=FORMAT, origin="analytic", **fields))
