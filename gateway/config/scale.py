"""What is wrong with sections about where wished numbers of backends go. Orders nothing.

Also what the words of commands mean, because a placeholder that is none is a mistake of the file.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.findings import Findings, did_you_mean, no_value
from gateway.config.kubernetes import OBJECT_NAME, check_api
from gateway.config.pool_schema import PoolSection
from gateway.config.scale_schema import (
    CommandSection,
    KubernetesScaleSection,
    ScaleSection,
    WebhookSection,
)
from gateway.config.schema import Config
from planner.document import shown, under

TARGETS = ("kubernetes", "webhook", "command", "prometheus")
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
COMMON = ("pool", "model", "gpu", "backends", "running", "leaving", "key")
NAMED = (*COMMON, "name", "number")
SINGLE = ("list", "launch", "stop")
# Group and version, and the name in URLs, of kinds that have the subresource `scale`.
KINDS = {
    "Deployment": ("apps/v1", "deployments"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "LeaderWorkerSet": ("leaderworkerset.x-k8s.io/v1", "leaderworkersets"),
    "StormService": ("orchestration.aibrix.ai/v1alpha1", "stormservices"),
    "RayClusterFleet": ("orchestration.aibrix.ai/v1alpha1", "rayclusterfleets"),
}
COSTED = ("Deployment", "ReplicaSet")  # of these pod-deletion-cost says which pods go first
OWN_HEADERS = frozenset(
    (
        "accept", "connection", "content-length", "content-type", "expect", "host",
        "idempotency-key", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
    )
)  # fmt: skip
API_VERSION = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?")
PLURAL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def check_scale(config: Config, root: Path, environ: Mapping[str, str], findings: Findings) -> None:
    """Note wishes that could go nowhere, or that two pools have for one thing.

    root: the folder that paths are relative to. environ: where keys and programs are looked for.
    """
    first: dict[object, str] = {}
    for name, pool in config.pools.items():
        if pool.scale is None:
            continue
        where = f"{under('pools', name)}.scale"
        _check_target(pool.scale, where, findings)
        _check_bounds(pool, pool.scale, where, findings)
        if pool.discover is None:
            text = "needs `discover`: else nobody finds what is started"
            findings.problem(where, text)
        if (section := pool.scale.kubernetes) is not None:
            _check_object(section, f"{where}.kubernetes", root, findings)
            same = (section.api_server, section.namespace, kind_of(section), section.name)
            _check_twice(first, same, f"{where}.kubernetes", findings)
        if pool.scale.webhook is not None:
            _check_webhook(pool.scale.webhook, f"{where}.webhook", root, environ, findings)
        if (command := pool.scale.command) is not None:
            _check_command(command, f"{where}.command", root, environ, findings)
            if command.launch:
                prefix = prefix_of(name, command)
                _check_twice(first, prefix, f"{where}.command.prefix", findings)


def bounds_of(pool: PoolSection) -> tuple[int, int]:
    """Fewest and most backends that are wished of a checked pool with `scale`."""
    assert pool.scale is not None
    least = pool.min_backends if pool.scale.least is None else pool.scale.least
    most = pool.max_backends if pool.scale.most is None else pool.scale.most
    assert most is not None
    return least, most


def kind_of(section: KubernetesScaleSection) -> tuple[str, str]:
    """Group and version, and the name in URLs; both empty where neither is known."""
    version, plural = KINDS.get(section.kind, ("", ""))
    return section.api_version or version, section.plural or plural


def prefix_of(pool: str, section: CommandSection) -> str:
    """What the names of a pool's backends begin with; names have letters, digits and hyphens."""
    return section.prefix or "cuvee-" + re.sub("[^a-z0-9]+", "-", pool.casefold()).strip("-")


def _check_twice(first: dict[object, str], what: object, key: str, findings: Findings) -> None:
    other = first.setdefault(what, key)
    if other != key:
        findings.problem(key, f"the same as {other}: the two would take turns in changing it")


def _check_target(section: ScaleSection, where: str, findings: Findings) -> None:
    given = [target for target in TARGETS if getattr(section, target) not in (None, False)]
    if len(given) != 1:
        found = f"has {' and '.join(given)}" if given else "has none"
        findings.problem(where, f"needs one of {', '.join(TARGETS)}, and {found}")


def _check_bounds(pool: PoolSection, section: ScaleSection, where: str, findings: Findings) -> None:
    least = pool.min_backends if section.least is None else section.least
    most = pool.max_backends if section.most is None else section.most
    if most is None:
        findings.problem(f"{where}.most", "missing, and the pool has no `max_backends`")
    elif least > most:
        key = "least" if section.least is not None else "most"
        findings.problem(f"{where}.{key}", f"at least {least} and at most {most} cannot both be")
    allowed = pool.max_backends
    if section.most is not None and allowed is not None and section.most > allowed:
        text = f"{section.most} is more than the pool's max_backends, {allowed}"
        findings.problem(f"{where}.most", text)
    if section.least is not None and section.least < pool.min_backends:
        text = f"{section.least} is less than the pool's min_backends, {pool.min_backends}"
        findings.problem(f"{where}.least", text)


def _check_object(
    section: KubernetesScaleSection, key: str, root: Path, findings: Findings
) -> None:
    for name in ("name", "namespace"):
        value = getattr(section, name)
        if value is not None and not OBJECT_NAME.fullmatch(value):
            findings.problem(f"{key}.{name}", f"this is no name of an object: {shown(value)}")
    version, plural = kind_of(section)
    if not version or not plural:
        near = did_you_mean(section.kind, KINDS)
        text = f"{shown(section.kind)} needs `api_version` and `plural`{near}"
        findings.problem(f"{key}.kind", text)
    elif not API_VERSION.fullmatch(version):
        text = f"this is no group and version: {shown(version)}"
        findings.problem(f"{key}.api_version", text)
    elif not PLURAL.fullmatch(plural):
        findings.problem(f"{key}.plural", f"this is no name of a resource: {shown(plural)}")
    if section.mark_leaving and section.kind not in COSTED:
        text = f"{shown(section.kind)} does not say which pods go first: it has no effect"
        findings.warning(f"{key}.mark_leaving", text)
    check_api(key, section, root, findings)


def _check_webhook(
    section: WebhookSection,
    key: str,
    root: Path,
    environ: Mapping[str, str],
    findings: Findings,
) -> None:
    if fault := _url_fault(section.url):
        findings.problem(f"{key}.url", fault)
    if section.key_file is not None and section.key_env is not None:
        findings.problem(f"{key}.key_file", "key_env is there too: one of the two")
    elif section.key_file is not None:
        if not (root / section.key_file).is_file():
            text = f"no such file: {shown(root / section.key_file)}"
            findings.problem(f"{key}.key_file", text)
    elif section.key_env is not None:
        if not environ.get(section.key_env):
            text = no_value(section.key_env)
            findings.problem(f"{key}.key_env", text)
    else:
        text = "neither key_file nor key_env: what is sent is not signed, anybody could send it"
        findings.warning(key, text)
    for name in section.headers:
        if name.lower() in OWN_HEADERS or name.lower().startswith("x-cuvee-"):
            text = "the gateway writes this header itself"
            findings.problem(under(f"{key}.headers", name), text)
    if section.ca_file is not None and not (root / section.ca_file).is_file():
        findings.problem(f"{key}.ca_file", f"no such file: {shown(root / section.ca_file)}")
    if section.give_up_s < section.timeout_s:
        text = f"{section.give_up_s:g} is shorter than timeout_s, {section.timeout_s:g}"
        findings.problem(f"{key}.give_up_s", text)


def _url_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not url.startswith(("http://", "https://")) or not host or port == 0:
        return f"must be a URL of http or https: {shown(url)}"
    if not url.isascii() or any(not c.isprintable() or c.isspace() for c in url):
        return f"must be ASCII without blanks: {shown(url)}"
    if parts.username is not None or parts.password is not None:
        return "must not have a user or a password: use `headers`"
    return "must not have a fragment: it is not sent" if parts.fragment else None


def _check_command(
    section: CommandSection,
    key: str,
    root: Path,
    environ: Mapping[str, str],
    findings: Findings,
) -> None:
    single = [name for name in SINGLE if getattr(section, name)]
    if section.run and single:
        findings.problem(key, f"has `run` and `{single[0]}`: one of the two ways")
    elif single and len(single) < len(SINGLE):
        missing = next(name for name in SINGLE if name not in single)
        findings.problem(f"{key}.{missing}", "missing: list, launch and stop belong together")
    elif not section.run and not single:
        findings.problem(key, "needs `run`, or `list`, `launch` and `stop`")
    wanted = {"run": "backends", "launch": "name", "stop": "name"}
    for name in ("run", *SINGLE):
        words = getattr(section, name)
        if not words:
            continue
        known = NAMED if name in ("launch", "stop") else COMMON
        _check_words(words, f"{key}.{name}", known, wanted.get(name), findings)
        if fault := program_fault(words[0], root, environ):
            findings.warning(f"{key}.{name}[0]", fault)


def _check_words(
    words: tuple[str, ...], key: str, known: tuple[str, ...], wanted: str | None, findings: Findings
) -> None:
    found: set[str] = set()
    for index, word in enumerate(words):
        names = PLACEHOLDER.findall(word)
        found |= set(names)
        for name in names:
            if name not in known:
                text = f"{{{name}}} is not known here{did_you_mean(name, known)}"
                findings.problem(f"{key}[{index}]", text)
            elif index == 0:
                findings.problem(f"{key}[0]", "the program itself cannot have a placeholder")
        if "\0" in word:
            findings.problem(f"{key}[{index}]", "has a zero byte")
    if not words[0]:
        findings.problem(f"{key}[0]", "the name of the program is empty")
    if wanted is not None and wanted not in found:
        findings.problem(key, f"{{{wanted}}} is in none of its words")


def program_fault(word: str, root: Path, environ: Mapping[str, str]) -> str | None:
    """Why a program cannot be started, as far as can be seen; `None` if it can."""
    if "/" in word:
        path = root / word
        found = shutil.which(str(path.absolute()))
        return None if found else f"no such program: {shown(path)}"
    found = shutil.which(word, path=environ.get("PATH"))
    return None if found else f"no such program in PATH: {shown(word)}"
