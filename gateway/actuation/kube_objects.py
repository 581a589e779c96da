"""What is read and written of objects of the Kubernetes API, one object at a time; refusals of the
API in words. Knows no wish.

Conflicts are what makes it safe: each change names the version that it was made for.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from gateway.actuation.actuator import ActuationError
from gateway.config.kubernetes import ApiKeys
from gateway.discovery.kubernetes.api import (
    ACCOUNT,
    ApiFault,
    ApiRefusal,
    KubeApi,
    in_cluster,
)
from gateway.discovery.kubernetes.objects import KubeStruct, ObjectMeta
from gateway.discovery.kubernetes.sections import api_of, own_namespace

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
CONFLICT = 409
# Another try may help: a token that has just been replaced, conflicts, a server in trouble.
PASSING = frozenset((401, CONFLICT, 408, 425, 429))
Read = TypeVar("Read")


class ScaleSpec(KubeStruct, frozen=True):
    """Of a scale; no number means none."""

    replicas: int = 0


class ScaleObject(KubeStruct, frozen=True):
    """The subresource `scale` (autoscaling/v1), of whatever kind."""

    metadata: ObjectMeta
    kind: str = ""
    spec: ScaleSpec = ScaleSpec()


class KubeObjects:
    """One API server, as a section of the configuration names it."""

    def __init__(self, section: ApiKeys, root: Path, account: Path = ACCOUNT) -> None:
        """root: the folder that paths are relative to. account: that of the pod."""
        self._server = api_of(section, root)
        self._account = account
        self._api: KubeApi | None = None

    def __repr__(self) -> str:
        return f"<KubeObjects {self._server.url if self._server else 'of the cluster around'}>"

    def namespace(self, given: str | None) -> str:
        """The namespace that is meant."""
        return given or own_namespace(self._account)

    async def read(self, target: str, form: type[Read]) -> Read:
        """An object. Raises ApiFault."""
        return _decoded(await self._asked().ask("GET", target), form)

    async def patch(self, target: str, change: Any, form: type[Read], kind: str = MERGE) -> Read:
        """An object as it is after a change. Raises ApiFault."""
        body = msgspec.json.encode(change)
        return _decoded(await self._asked().ask("PATCH", target, body, kind), form)

    def _asked(self) -> KubeApi:
        if self._api is None:
            self._api = KubeApi(self._server or in_cluster(os.environ, self._account))
        return self._api


def object_path(api_version: str, namespace: str, plural: str, name: str) -> str:
    """The path of an object. The group without a name has a root of its own."""
    root = "/apis" if "/" in api_version else "/api"
    parts = (quote(part, safe="") for part in (namespace, plural, name))
    return f"{root}/{api_version}/namespaces/" + "/".join(parts)


def passes(fault: ApiFault) -> bool:
    """Whether another try may help."""
    if not isinstance(fault, ApiRefusal):
        return True
    return fault.status in PASSING or fault.status >= 500


def explained(
    fault: ApiFault, what: str, rule: Mapping[str, tuple[str, ...]], namespace: str
) -> ActuationError:
    """A refusal in words, with what helps. what: the object. rule: the right that is needed."""
    if not isinstance(fault, ApiRefusal):
        return ActuationError(str(fault))
    if fault.status == 401:
        return ActuationError(f"the API does not accept the token (401): {fault.message}")
    if fault.status == 403:
        parts = ", ".join(f"{name}: [{', '.join(map(_quoted, v))}]" for name, v in rule.items())
        text = f"may not change {what}: a Role in {namespace} must have {{{parts}}}"
        return ActuationError(f"{text}; {fault.message}", final=True)
    if fault.status == 404:
        text = f"{what} does not exist, or cannot be changed this way: {fault.message}"
        return ActuationError(text, final=True)
    if fault.status == CONFLICT:
        return ActuationError(f"{what} is changed by others all the time: {fault.message}")
    text = f"{what}: {fault.status} {fault.message}".strip()
    return ActuationError(text, final=not passes(fault))


def _quoted(word: str) -> str:
    return word or '""'


def _decoded(answer: bytes, form: type[Read]) -> Read:
    try:
        return msgspec.json.decode(answer, type=form)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ApiFault(f"this is not what the API answers: {error}") from None
