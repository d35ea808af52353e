"""Layers: publish, look at, list, delete. A version never changes, and its number is never given twice.

A version that is deleted goes on working where it is used: a function has what it needs of it in its own record, and its code in
the code store. Which runtimes and architectures a version says it is good for is checked against AWS's list and used for lists.
AWS does not refuse other functions, and so nobody does here. Texts marked "recorded" are from AWS.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gateway.clock import Clock
from gateway.control import describe
from gateway.control.call import Call, Rule
from gateway.control.changes import ChangesOf
from gateway.control.code import CodeLinks, CodeStore
from gateway.control.layer_names import LayerNames
from gateway.control.packages import archive_of
from gateway.control.paging import page
from gateway.control.usage import Usage
from gateway.errors import InvalidParameterValueException, ResourceNotFoundException
from gateway.records import Layer, LayerVersion


class Layers:
    """Use cases of layers and their versions."""

    def __init__(
        self, *, names: LayerNames, changes: ChangesOf[Layer], code: CodeStore, links: CodeLinks, usage: Usage, clock: Clock
    ) -> None:
        self._names = names
        self._changes = changes
        self._code = code
        self._links = links
        self._usage = usage
        self._clock = clock

    def rules(self) -> Mapping[str, Rule]:
        return {
            "PublishLayerVersion": self.publish,
            "GetLayerVersion": self.get,
            "GetLayerVersionByArn": self.get_by_arn,
            "ListLayers": self.list,
            "ListLayerVersions": self.list_versions,
            "DeleteLayerVersion": self.delete,
        }

    async def publish(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        name = self._names.name(params["LayerName"], "lambda:PublishLayerVersion")
        if not params["Content"]:
            raise InvalidParameterValueException("Missing Content")
        archive = archive_of(params["Content"])

        def edit(layer: Layer | None) -> tuple[Layer, LayerVersion]:
            layer = layer or Layer(name=name)
            version = LayerVersion(
                version=layer.next_version,
                code_sha256=package.sha256,
                code_size_bytes=package.size_bytes,
                code_key=package.key,
                unzipped_bytes=package.unzipped_bytes,
                description=params.get("Description", ""),
                license_info=params.get("LicenseInfo"),
                runtimes=_tuple(params.get("CompatibleRuntimes")),
                architectures=_tuple(params.get("CompatibleArchitectures")),
                created=describe.modified(self._clock.wall()),
            )
            versions = {**layer.versions, version.version: version}
            return dataclasses.replace(layer, versions=versions, next_version=layer.next_version + 1), version

        self._usage.room_for(len(archive))
        async with self._code.add(archive) as package:
            version = await self._changes.change(name, edit)
        return self._whole(call, name, version)

    async def get(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params["LayerName"], "lambda:GetLayerVersion")
        return self._whole(call, name, self._existing(name, _number(call)))

    async def get_by_arn(self, call: Call) -> Mapping[str, Any]:
        name, number = self._names.parse_version(call.params["Arn"], "lambda:GetLayerVersion")
        return self._whole(call, name, self._existing(name, number))

    async def list(self, call: Call) -> Mapping[str, Any]:
        """Each layer with its newest version that matches; layers without one are left out, as those without any are."""
        newest = [
            (layer.name, found[0]) for layer in self._names.catalog.layers() if (found := _matching(layer, call.params))
        ]  # by name
        shown, marker = page(newest, call.params, lambda one: one[0])
        layers = [
            {
                "LayerName": name,
                "LayerArn": self._names.arn(name),
                "LatestMatchingVersion": describe.layer_version(version, self._names.arn(name)),
            }
            for name, version in shown
        ]
        return {"Layers": layers, "NextMarker": marker}

    async def list_versions(self, call: Call) -> Mapping[str, Any]:
        """The newest first. There being no such layer is no error on AWS."""
        name = self._names.name(call.params["LayerName"], "lambda:ListLayerVersions")
        layer = self._names.catalog.get(name)
        found = _matching(layer, call.params) if layer else []
        shown, marker = page(found, call.params, lambda one: f"{10**12 - one.version:013}")
        arn = self._names.arn(name)
        return {"LayerVersions": [describe.layer_version(one, arn) for one in shown], "NextMarker": marker}

    async def delete(self, call: Call) -> None:
        """There being no such version is no error on AWS."""
        name = self._names.name(call.params["LayerName"], "lambda:DeleteLayerVersion")
        number = _number(call)

        def edit(layer: Layer | None) -> tuple[Layer | None, None]:
            if layer is None or number not in layer.versions:
                return layer, None
            versions = {key: version for key, version in layer.versions.items() if key != number}
            return dataclasses.replace(layer, versions=versions), None

        await self._changes.change(name, edit)

    def _existing(self, name: str, number: int) -> LayerVersion:
        version = self._names.version(name, number)
        if version is None:
            raise ResourceNotFoundException("The resource you requested does not exist.")
        return version

    def _whole(self, call: Call, name: str, version: LayerVersion) -> Mapping[str, Any]:
        arn = self._names.arn(name)
        return {
            **describe.layer_version(version, arn),
            "LayerArn": arn,
            "Content": {
                "Location": call.endpoint + self._links.make(version.code_key),
                "CodeSha256": version.code_sha256,
                "CodeSize": version.code_size_bytes,
            },
        }


def _number(call: Call) -> int:
    number: int = call.params["VersionNumber"]
    if number < 1:
        raise InvalidParameterValueException("Layer Version Cannot be less than 1")  # recorded
    return number


def _matching(layer: Layer, params: Mapping[str, Any]) -> list[LayerVersion]:
    """The layer's versions that say they are good for what is asked for, the newest first."""
    runtime, architecture = params.get("CompatibleRuntime"), params.get("CompatibleArchitecture")
    return [
        version
        for _, version in sorted(layer.versions.items(), reverse=True)
        if (runtime is None or runtime in (version.runtimes or ()))
        and (architecture is None or architecture in (version.architectures or ()))
    ]


def _tuple(found: list[str] | None) -> tuple[str, ...] | None:
    return None if found is None else tuple(found)
