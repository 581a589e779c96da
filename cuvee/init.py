"""The subcommand `init`: running engines in, a commented configuration out."""

import os
import sys
from pathlib import Path

import click
import uvloop

from cuvee.drafting import promised, write
from cuvee.options import API_KEY, DEFAULT_CONFIG, OUTPUT_FILE, POSITIVE, TPOT, TTFT
from cuvee.seating import Asking, EnginePlace, gpu_label, gpu_of_facts, places, seated
from gateway.discovery.kubernetes.api import ACCOUNT, ApiFault, ApiServer, KubeApi, in_cluster
from gateway.discovery.kubernetes.sections import own_namespace
from gateway.discovery.kubernetes.survey import Survey, survey
from gateway.errors import ConfigError
from gateway.preflight.draft import drafted
from gateway.preflight.draft_text import KEY_ENVIRONMENT
from planner import shipped
from planner.errors import PlannerError

GPU = click.option("--gpu", help="GPU of the engines: H100, or 2xH100 if each has two.")
WEIGHTS = click.option(
    "--weights",
    help="Model that the engines' was made from, if its name does not say it: Llama-3-8B, or the "
    "path of its config.json.",
)


@click.command()
@click.argument("urls", nargs=-1, metavar="[URL[=GPU]]...")
@click.option(
    "--out", type=OUTPUT_FILE, default=DEFAULT_CONFIG, show_default=True, help="File to write."
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
@GPU
@WEIGHTS
@TTFT
@TPOT
@click.option("--selector", help="Find the engines in Kubernetes by the labels of their pods.")
@click.option("--namespace", help="With --selector: where the pods are.")
@click.option(
    "--api-server",
    help="With --selector, outside of the cluster: URL of the API, as of `kubectl proxy`.",
)
@API_KEY
@click.option(
    "--timeout", "timeout_s", type=POSITIVE, default=5.0, show_default=True,
    help="Seconds until an engine must have answered.",
)  # fmt: skip
def init(
    urls: tuple[str, ...],
    out: Path,
    force: bool,
    gpu: str | None,
    weights: str | None,
    ttft: float | None,
    tpot: float | None,
    selector: str | None,
    namespace: str | None,
    api_server: str | None,
    key: str | None,
    timeout_s: float,
) -> None:
    """Ask engines what they are, and write a configuration.

    Each engine is asked for its model, context, version and KV memory. What no engine tells is its
    GPU: write it behind the URL, give --gpu, or answer when you are asked; labels of Kubernetes'
    nodes do tell it. The file passes `cuvee check`; what was assumed is printed. Exits with 1 if an
    engine cannot be asked, and then writes nothing.

    \b
    cuvee init http://10.0.0.1:8000=A10G http://10.0.1.1:8000=2xH100
    cuvee init --selector app=vllm
    """
    if bool(urls) == bool(selector):
        raise click.UsageError("give the URLs of engines, or --selector")
    try:
        there = out.exists()
    except OSError as error:  # a folder that may not be entered, say
        raise click.ClickException(f"{out}: {error.strerror}") from error
    if there and not force:
        raise click.ClickException(f"{out} is there already: --force writes over it")
    absolute = None if weights is None else shipped.absolute(weights, Path())
    asking = Asking(gpu_label(gpu) if gpu else None, absolute, key, timeout_s)
    try:
        wanted = places(urls) if urls else _pods(str(selector), namespace, api_server)
        parts = drafted(seated(wanted, asking), promised(ttft, tpot))
        written = write(parts, out, keyed=key is not None, force=force)
    except (PlannerError, ApiFault, OSError) as error:
        raise click.ClickException(str(error)) from error
    except ConfigError as error:
        raise click.ClickException("\n".join(error.problems)) from error
    named = "" if out == DEFAULT_CONFIG else f" --config {out}"
    told = [f"assumed: {line}" for line in parts.assumed]
    click.echo("\n".join([*told, f"written: {', '.join(map(str, written))}; next:"]))
    if key is not None and os.environ.get(KEY_ENVIRONMENT) != key:
        click.echo(f"  export {KEY_ENVIRONMENT}=…    # the key of --api-key, which the file names")
    click.echo(f"  cuvee check --connect{named}    # does it fit the engines?")
    click.echo(f"  cuvee serve{named}")


def _pods(selector: str, namespace: str | None, api_server: str | None) -> list[EnginePlace]:
    """The engines in pods with these labels. Raises ApiFault."""
    server = ApiServer(api_server) if api_server else in_cluster(os.environ)
    where = namespace or own_namespace(ACCOUNT)
    found: Survey = uvloop.run(survey(KubeApi(server), where, selector))
    if not found.pods:
        click.echo(f"{where}/{selector}: {found.seen} pods, none of them serves", err=True)
        sys.exit(1)
    section = {"selector": selector, "namespace": where, "nodes": found.nodes}
    if api_server:
        section["api_server"] = api_server
    return [EnginePlace(pod.url, gpu_of_facts(pod.facts), section) for pod in found.pods]
