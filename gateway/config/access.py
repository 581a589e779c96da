"""Reads the keys of clients from where the configuration says; what is wrong with them.

No message has a key or a digest in it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.access_keys import MOST_KEYS, AccessKeys, ServedKey
from gateway.config.access_schema import AccessSection, KeySection, KeysFile
from gateway.config.findings import Findings, did_you_mean, no_value
from gateway.config.schema import Config
from planner import files
from planner.document import Document, note, read, shown, under
from planner.errors import InvalidFile
from planner.model.buckets import BEST_EFFORT, DEFAULT

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
NAME_RULE = "the name of a key has letters, digits, `.`, `_`, `@` and `-`, at most 64"
RESERVED = ("others", "anonymous")  # that bills and logs use
HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")
NO_HASH = "must be `sha256:` and 64 hexadecimal digits; `cuvee keys add` makes a key and its hash"
SHORTEST = 16  # characters of a key as it is; `cuvee keys` makes keys of 52
NO_KEY = f"a key must be one word of printable ASCII, {SHORTEST} characters or more"
HIDDEN = "…"
UNKNOWN = "unknown key"  # of `planner.files`
VALUE = re.compile(r"(is (?:text|a [a-z ]+)): .*")
QUOTED = re.compile(r"'[^']*'")
SECTION_FILES = (".yaml", ".yml", ".json")

Problem = Callable[[str, str], None]  # key, text


def access_keys(
    config: Config, root: Path, environ: Mapping[str, str], findings: Findings
) -> AccessKeys | None:
    """The keys of all sources; `None` without one. Findings hear of what cannot be used. root: the
    folder that paths are relative to."""
    section = config.access
    if section is None:
        return None
    sources = KeySources(config, findings)
    if section.keys_file is not None:
        sources.add_file(root / section.keys_file)
    if section.keys_env is not None:
        sources.add_variable(section.keys_env, environ)
    if section.keys_folder is not None:
        sources.add_folder(root / section.keys_folder)
    if not keyed(section):
        return None
    if not sources.keys and not findings.problems:
        findings.warning("access", "there is no key yet: every request to a model gets 401")
    if len(sources.keys) > MOST_KEYS:
        findings.problem("access", f"at most {MOST_KEYS} keys")
        return None
    if config.gateway.operator_paths == "both" and section.admin_read is None:
        text = "prices and plans can be read on `port` without a key: set access.admin_read"
        findings.warning("gateway.operator_paths", text)
    _check_forwarding(config, findings)
    return AccessKeys(keys=tuple(sources.keys.values())).after(None)


def keyed(section: AccessSection | None) -> bool:
    """Whether clients need keys."""
    return section is not None and any((section.keys_file, section.keys_env, section.keys_folder))


def _check_forwarding(config: Config, findings: Findings) -> None:
    for name, pool in config.pools.items():
        if pool.forward_authorization:
            text = "clients' keys are for this gateway: its engines must not get them (`access`)"
            findings.problem(f"{under('pools', name)}.forward_authorization", text)


def file_problems(path: Path, config: Config | None) -> tuple[str, ...]:
    """Why a gateway of this configuration would not follow a keys file; a line each. config: `None`
    where it is not known."""
    findings = Findings(path, Document({}, {}))
    KeySources(config, findings).add_file(path)
    return findings.problems


class KeySources:
    """Gathers keys. keys: by name."""

    def __init__(self, config: Config | None, findings: Findings) -> None:
        """config: `None`: what keys may name is not known, and not looked at."""
        self._findings = findings
        self._knows = config is not None
        models = () if config is None else config.models.items()
        self._models = {
            name
            for model, section in models
            for name in (model, *section.aliases, *section.adapters)
        }
        self._classes = {DEFAULT, BEST_EFFORT} | {
            name for _, section in models for name in section.classes
        }
        self._digests: dict[bytes, str] = {}
        self.keys: dict[str, ServedKey] = {}

    def __repr__(self) -> str:
        return f"<KeySources of {len(self.keys)} keys>"

    def add_file(self, path: Path) -> None:
        """Add the keys of a keys file."""
        if not path.is_file():
            note(path)
            text = f"no such file: {shown(path)}; `cuvee keys add NAME` makes it"
            self._findings.problem("access.keys_file", text)
            return
        document = self._read(path, "access.keys_file")
        if document is not None:
            own = Findings(path, document)
            self._add_document(document.value, own)
            self._findings.adopt(own)

    def add_variable(self, name: str, environ: Mapping[str, str]) -> None:
        """Add the keys in a variable of the environment."""
        text, where = environ.get(name, "").strip(), "access.keys_env"
        if not text:
            self._findings.problem(where, no_value(name))
        elif text.startswith("{"):
            try:
                value = msgspec.json.decode(text.encode())
            except msgspec.DecodeError as error:
                self._findings.problem(where, f"the variable {name} is no JSON: {error}")
                return
            own = Findings(Path(f"${name}"), Document(value, {}))
            self._add_document(value, own)
            self._findings.adopt(own)
        else:
            for number, word in enumerate(re.split(r"[\s,]+", text.strip(", "))):
                own_name, given, secret = word.partition("=")
                if not (given and NAME.fullmatch(own_name)):  # a `=` may end a key in Base64
                    own_name, secret = f"key-{number + 1}", word
                self._add_plain(own_name, secret, where)

    def add_folder(self, folder: Path) -> None:
        """Add the keys in the files of a folder; hidden ones are Kubernetes' own."""
        note(folder)
        try:
            paths = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
        except OSError as error:
            text = f"{shown(folder)} cannot be read: {error.strerror}"
            self._findings.problem("access.keys_folder", text)
            return
        for path in paths:
            if path.suffix in SECTION_FILES:
                self._add_section_file(path)
            elif path.is_file():
                self._add_key_file(path)

    def _add_key_file(self, path: Path) -> None:
        note(path)
        try:
            text = path.read_bytes().decode("latin-1").strip()
        except OSError as error:
            problem = f"{shown(path)} cannot be read: {error.strerror}"
            self._findings.problem("access.keys_folder", problem)
            return
        if HASH.fullmatch(text):
            self._add(path.name, KeySection(hash=text), self._problem_in(path))
        else:
            self._add_plain(path.name, text, f"access.keys_folder: {shown(path)}")

    def _add_section_file(self, path: Path) -> None:
        document = self._read(path, "access.keys_folder")
        if document is None:
            return
        own = Findings(path, document)
        section, mistakes = files.converted(_dated(document.value), KeySection)
        own.unusable(map(_hidden, mistakes))
        if section is not None and not mistakes:
            self._add(path.stem, section, own.problem)
        self._findings.adopt(own)

    def _problem_in(self, path: Path) -> Problem:
        return lambda _, text: self._findings.problem("access.keys_folder", f"{path}: {text}")

    def _read(self, path: Path, key: str) -> Document | None:
        try:
            return read(path)
        except InvalidFile as error:
            self._findings.problem(key, QUOTED.sub("'…'", str(error)))
            return None

    def _add_document(self, value: Any, own: Findings) -> None:
        if isinstance(value, dict) and isinstance(value.get("keys"), dict):
            value = value | {"keys": {n: _dated(entry) for n, entry in value["keys"].items()}}
        found, mistakes = files.converted(value, KeysFile)
        own.unusable(map(_hidden, mistakes))
        for name, section in {} if found is None else found.keys.items():
            where = under("keys", name if NAME.fullmatch(name) else HIDDEN)
            if section is not None and not own.hides(where):
                self._add(name, section, _problem_under(own, where))

    def _add_plain(self, name: str, secret: str, where: str) -> None:
        if len(secret) < SHORTEST or not re.fullmatch("[!-~]+", secret):
            self._findings.problem(where, f"{shown(name)}: {NO_KEY}")
            return
        digest = sha256(secret.encode()).hexdigest()

        def problem(_: str, text: str) -> None:
            self._findings.problem(where, f"{shown(name)}: {text}")

        self._add(name, KeySection(hash=f"sha256:{digest}"), problem)

    def _add(self, name: str, section: KeySection, problem: Problem) -> None:
        """Add one key, if nothing is wrong with it."""
        mistakes = [*self._mistakes(name, section)]
        for key, text in mistakes:
            problem(key, text)
        if mistakes:
            return
        classes, default = section.slo_classes, section.default_slo_class
        if default is None and classes is not None and DEFAULT not in classes:
            default = classes[0]
        digest = _digest(section.hash)
        self._digests[digest] = name
        self.keys[name] = ServedKey(
            name=name,
            digest=digest,
            models=section.models,
            slo_classes=classes,
            slo_class=default,
            weight=section.weight,
            requests_per_minute=section.requests_per_minute,
            tokens_per_minute=section.tokens_per_minute,
            concurrency=section.concurrency,
            usd_per_day=section.usd_per_day,
            expires_s=None if section.expires is None else _moment(section.expires),
        )

    def _mistakes(self, name: str, section: KeySection) -> Iterator[tuple[str, str]]:
        """What is wrong with a key: the field and the text."""
        if not NAME.fullmatch(name) or name in RESERVED:
            yield "", NAME_RULE
        elif name in self.keys:
            yield "", "there is a key of this name already"
        if HASH.fullmatch(section.hash) is None:
            yield "hash", NO_HASH
        elif _digest(section.hash) in self._digests:
            yield "hash", f"is that of `{self._digests[_digest(section.hash)]}` already"
        for model in (section.models or ()) if self._knows else ():
            if model not in self._models:
                near = did_you_mean(model, self._models)
                yield "models", f"`{shown(model)}` is no model{near}"
        for one in (*(section.slo_classes or ()), section.default_slo_class):
            if self._knows and one is not None and one not in self._classes:
                near = did_you_mean(one, self._classes)
                yield "slo_classes", f"no model has an SLO class `{shown(one)}`{near}"
        classes, default = section.slo_classes, section.default_slo_class
        if classes is not None and not classes:
            yield "slo_classes", "must have at least one"
        elif classes is not None and default is not None and default not in classes:
            yield "default_slo_class", "is not among slo_classes"
        if section.expires is not None and _moment(section.expires) is None:
            yield "expires", "must be a date, or a moment as `2026-12-31T12:00:00Z`"


def _hidden(mistake: str) -> str:
    """A mistake without what stands in the file in a wrong place: it may be a key."""
    where, _, text = mistake.partition(": ")
    text = VALUE.sub(r"\1", text)
    if text == UNKNOWN:  # and near to no field
        where = f"{where.rpartition('.')[0]}.{HIDDEN}"
    return f"{where}: {text}"


def _problem_under(findings: Findings, where: str) -> Problem:
    return lambda key, text: findings.problem(f"{where}.{key}" if key else where, text)


def _dated(entry: Any) -> Any:
    """A section in which a date, which YAML knows by itself, is text."""
    if isinstance(entry, dict) and isinstance(entry.get("expires"), date):
        return entry | {"expires": entry["expires"].isoformat()}
    return entry


def _digest(text: str) -> bytes:
    return bytes.fromhex(text.partition(":")[2])


def _moment(text: str) -> float | None:
    """Unix time of a date or a moment, in UTC where it does not say; `None` if it is neither."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
