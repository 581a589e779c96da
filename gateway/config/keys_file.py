"""Changes a keys file: one key more, or one less. The key itself is told once and never written."""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

import msgspec
import yaml

from gateway.config.access import NAME, NAME_RULE, file_problems
from gateway.config.schema import Config
from planner.document import read, shown
from planner.errors import InvalidFile, InvalidValue

PREFIX = "sk-cuvee-"  # many programs ask for the first three characters
KEY_BYTES = 32  # as many as SHA-256 has, so that none can be guessed
MODE = 0o600  # of a file that is new
HEAD = "# Keys of clients: `cuvee keys` writes this file. The keys themselves are nowhere in it.\n"


def add_key(path: Path, name: str, fields: dict[str, Any], config: Config | None = None) -> str:
    """Add a key; return it. fields: of its section, besides the hash. config: of the gateway, for
    the names that a key may have in it; `None`: not known. Raises InvalidValue for a name that is
    taken or is none, and for fields that the gateway would refuse, InvalidFile for a file that is
    no keys file, OSError for one that cannot be written."""
    if not NAME.fullmatch(name):
        raise InvalidValue(f"{shown(name)}: {NAME_RULE}")
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)

    def change(keys: dict[str, Any]) -> None:
        if name in keys:
            raise InvalidValue(f"there is a key `{name}` already: revoke it first")
        keys[name] = {"hash": f"sha256:{sha256(key.encode()).hexdigest()}", **fields}
        _require_usable(name, keys[name], config)

    _change(path, change)
    return key


def revoke_key(path: Path, name: str) -> None:
    """Take a key out. Raises as `add_key` does, and InvalidValue for a name that is not there."""

    def change(keys: dict[str, Any]) -> None:
        if name not in keys:
            raise InvalidValue(f"{path} has no key `{shown(name)}`")
        del keys[name]

    _change(path, change)


def _require_usable(name: str, section: dict[str, Any], config: Config | None) -> None:
    """Raise InvalidValue for a key that the gateway would refuse: it follows a file as a whole."""
    with TemporaryDirectory(prefix="cuvee-keys-") as folder:
        alone = Path(folder) / "key.yaml"  # JSON has no NaN, with which a limit would be none
        alone.write_text(yaml.safe_dump({"keys": {name: section}}))
        problems = file_problems(alone, config)
    if problems:
        raise InvalidValue("\n".join(one.partition(": ")[2] for one in problems))


def sections(path: Path) -> dict[str, Any]:
    """What a keys file has, by name; nothing of one that is not there. Raises InvalidFile."""
    if not path.exists():
        return {}
    value = read(path).value
    if value is None or value == {}:
        return {}
    if not isinstance(value, dict) or not isinstance(value.get("keys", 0), dict | None):
        raise InvalidFile(f"{path}: must be a mapping with `keys`")
    return value["keys"] or {}


def _change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the keys of a file, which is whole at every moment."""
    path = Path(os.path.realpath(path))  # a link stays a link
    with _locked(path.parent):
        keys = sections(path)
        change(keys)
        value = {"keys": keys}
        if path.suffix == ".json":
            data = msgspec.json.format(msgspec.json.encode(value)) + b"\n"
        else:
            data = (HEAD + yaml.safe_dump(value, sort_keys=False)).encode()
        _replace(path, data)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two commands at the same time change the file one after the other."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another, with its owner's rights, in one step."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777 if path.exists() else MODE)
            if path.exists() and os.geteuid() == 0:
                os.fchown(file.fileno(), path.stat().st_uid, path.stat().st_gid)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
