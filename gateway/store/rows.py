"""Records as JSON in rows, and back. [P]

A member that an older version did not write takes the record's default, so that adding one needs no migration.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from gateway.records import (
    Alias,
    Cors,
    FunctionVersion,
    ImageCode,
    LayerVersion,
    LoggingConfig,
    Policy,
    Provisioned,
    Statement,
    UrlConfig,
    UsedLayer,
)
from sandbox.spec import Architecture, Image


def to_body(record: FunctionVersion | Alias | UrlConfig | Policy | LayerVersion) -> str:
    return orjson.dumps(dataclasses.asdict(record)).decode()


def to_version(body: str) -> FunctionVersion:
    found: dict[str, Any] = orjson.loads(body)
    found["architecture"] = Architecture(found["architecture"])
    found["logging"] = LoggingConfig(**found["logging"])
    found["provisioned"] = _provisioned(found)
    found["layers"] = tuple(UsedLayer(**one) for one in found.get("layers", ()))
    if (image := found.get("image")) is not None:
        lists = {key: tuple(image[key]) if image[key] is not None else None for key in ("entry_point", "command")}
        found["image"] = ImageCode(**{**image, **lists, "image": Image.of(image["image"])})
    return FunctionVersion(**found)


def to_alias(body: str) -> Alias:
    return _alias(orjson.loads(body))


def to_url(body: str) -> UrlConfig:
    found: dict[str, Any] = orjson.loads(body)
    if found["cors"] is not None:
        cors: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found["cors"].items()}
        found["cors"] = Cors(**cors)
    return UrlConfig(**found)


def to_policy(body: str) -> Policy:
    return _policy(orjson.loads(body))


def to_layer_version(body: str) -> LayerVersion:
    found: dict[str, Any] = orjson.loads(body)
    for member in ("runtimes", "architectures"):
        if found[member] is not None:
            found[member] = tuple(found[member])
    if found["policy"] is not None:
        found["policy"] = _policy(found["policy"])
    return LayerVersion(**found)


def _alias(found: dict[str, Any]) -> Alias:
    found["provisioned"] = _provisioned(found)
    found["former"] = _alias(found["former"]) if found.get("former") else None
    return Alias(**found)


def _provisioned(found: dict[str, Any]) -> Provisioned | None:
    return Provisioned(**found["provisioned"]) if found.get("provisioned") else None


def _policy(found: dict[str, Any]) -> Policy:
    return Policy(statements=tuple(Statement(**one) for one in found["statements"]), revision_id=found["revision_id"])
