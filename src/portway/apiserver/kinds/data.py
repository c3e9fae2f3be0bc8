"""ConfigMaps and Secrets.

Source: pkg/apis/core/validation (ValidateConfigMap, ValidateSecret and their updates), as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Context, Kind, Strategy
from portway.kube import names
from portway.kube.errors import Cause, invalid_value, required, too_long
from portway.kube.objects import Object

_MAX_BYTES = 1024 * 1024
_ACCOUNT = "kubernetes.io/service-account.name"
_REQUIRED_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


class ConfigMapStrategy(Strategy):
    """What is particular to ConfigMaps."""

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Keys and size."""
        return common.first(_config_map_causes(obj))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """An immutable one keeps its data."""
        return common.first(common.immutable_data(new, old, ("data", "binaryData")), _config_map_causes(new))


def _config_map_causes(obj: Object) -> Iterator[Cause]:
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for key in data:
        yield from common.bad(f"data[{key}]", key, names.is_config_map_key(key))
        if key in binary:
            yield invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData")
    for key in binary:
        yield from common.bad(f"binaryData[{key}]", key, names.is_config_map_key(key))
    if sum(len(value.encode()) for value in data.values()) + sum(map(_size, binary.values())) > _MAX_BYTES:
        yield too_long("[]", _MAX_BYTES)


def _size(encoded: str) -> int:
    """The bytes that a base64 text stands for."""
    return len(encoded) // 4 * 3 - encoded[-2:].count("=")


class SecretStrategy(Strategy):
    """What is particular to Secrets."""

    def defaults(self, obj: Object) -> None:
        """The type; stringData is another way to write data, and never read back."""
        if not obj.get("type"):
            obj["type"] = "Opaque"
        written = obj.pop("stringData", None) or {}
        if written:
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in written.items()}
            obj["data"] = {**(obj.get("data") or {}), **encoded}

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Keys, size, and what the type asks for."""
        return common.first(_secret_causes(obj))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The type stays, and an immutable one keeps its data."""
        return common.first(
            common.unchanged("type", new["type"], old.get("type")),
            common.immutable_data(new, old, ("data",)),
            _secret_causes(new),
        )


def _secret_causes(obj: Object) -> Iterator[Cause]:
    data = obj.get("data") or {}
    for key in data:
        yield from common.bad(f"data[{key}]", key, names.is_config_map_key(key))
    if sum(map(_size, data.values())) > _MAX_BYTES:
        yield too_long("data", _MAX_BYTES)
    kind = obj.get("type", "")
    if kind == "kubernetes.io/service-account-token":
        if not (obj["metadata"].get("annotations") or {}).get(_ACCOUNT):
            yield required(f"metadata.annotations[{_ACCOUNT}]")
    elif kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        yield required("data[username]")
        yield required("data[password]")
    for key in _REQUIRED_KEYS.get(kind, ()):
        if key not in data:
            yield required(f"data[{key}]")
        elif key.startswith(".docker") and not _is_json(data[key]):
            yield invalid_value(f"data[{key}]", "<secret contents redacted>", "invalid character in JSON")


def _is_json(encoded: str) -> bool:
    try:
        orjson.loads(base64.b64decode(encoded))
    except ValueError:
        return False
    return True


def _config_map_cells(obj: Object, _now: float) -> Iterable[Any]:
    return (len(obj.get("data") or ()) + len(obj.get("binaryData") or ()),)


def _secret_cells(obj: Object, _now: float) -> Iterable[Any]:
    return obj.get("type", ""), len(obj.get("data") or ())


def _secret_fields(obj: Object) -> Mapping[str, str]:
    return {"type": obj.get("type", "")}


CONFIG_MAP = Kind(
    group="",
    version="v1",
    kind="ConfigMap",
    plural="configmaps",
    singular="configmap",
    namespaced=True,
    short_names=("cm",),
    strategy=ConfigMapStrategy(),
    columns=common.columns(_config_map_cells, Column("Data", "string", description="How many keys it has.")),
)
SECRET = Kind(
    group="",
    version="v1",
    kind="Secret",
    plural="secrets",
    singular="secret",
    namespaced=True,
    strategy=SecretStrategy(),
    selectable=("type",),
    selectable_fields=_secret_fields,
    columns=common.columns(
        _secret_cells,
        Column("Type", description="What its keys mean."),
        Column("Data", "string", description="How many keys it has."),
    ),
)
