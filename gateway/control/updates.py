"""Changing a function: its code, its configuration.

The generation, and with it every sandbox of the function, changes only when something did: sending the same once more does not
cost anybody a cold start. The revision changes always, as on AWS.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from gateway.clock import Clock
from gateway.control import describe, images, validate
from gateway.control.call import Call, Rule
from gateway.control.changes import Changes
from gateway.control.code import CodeStore, Package
from gateway.control.functions import logging
from gateway.control.images import Images
from gateway.control.layer_use import Chosen, LayerUse, check_size
from gateway.control.names import Names
from gateway.control.packages import archive_of
from gateway.control.pulling import Pulling
from gateway.control.settling import Settling, not_in_progress, on_its_way, pending, updating
from gateway.control.usage import Usage
from gateway.control.versions import check_revision, publish
from gateway.errors import InvalidParameterValueException, NotImplementedHere
from gateway.records import LATEST, Function, FunctionVersion
from sandbox.spec import Architecture


class Updates:
    """Use cases that change an existing function. `next_generation` gives a number that no function version has had before."""

    def __init__(
        self,
        *,
        names: Names,
        changes: Changes,
        code: CodeStore,
        layers: LayerUse,
        found_images: Images,
        settling: Settling,
        pulling: Pulling,
        usage: Usage,
        clock: Clock,
        next_generation: Callable[[], int],
    ) -> None:
        self._names = names
        self._changes = changes
        self._code = code
        self._layers = layers
        self._images = found_images
        self._settling = settling
        self._pulling = pulling
        self._usage = usage
        self._clock = clock
        self._next_generation = next_generation

    def rules(self) -> Mapping[str, Rule]:
        return {"UpdateFunctionCode": self.code, "UpdateFunctionConfiguration": self.configuration}

    async def code(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        name = self._names.name(params)
        current = self._names.existing(self._names.catalog.get(name), name).latest
        if current.image is None and params.get("ImageUri"):
            raise InvalidParameterValueException("Please don't provide ImageUri when updating a function with packageType Zip.")
        if current.image is not None and not params.get("ImageUri"):
            raise InvalidParameterValueException(images.URI_NEEDED)
        if params.get("PublishTo"):
            raise NotImplementedHere("Publishing to $LATEST.PUBLISHED is not implemented yet: leave PublishTo out.")
        if current.image is not None:
            return await self._image(name, params, current)
        archive = archive_of(params)

        def changed(function: Function | None, package: Package) -> tuple[Function, FunctionVersion]:
            function = self._names.existing(function, name)
            latest = function.latest
            not_in_progress(latest)
            check_revision(params.get("RevisionId"), latest.revision_id)
            check_size(package.unzipped_bytes, latest.layers)
            return function, dataclasses.replace(
                latest,
                code_key=package.key,
                code_sha256=package.sha256,
                code_size_bytes=package.size_bytes,
                architecture=_architecture(params, latest),
            )

        self._usage.room_for(len(archive))
        async with self._code.add(archive) as package:
            if params.get("DryRun"):
                _, new = changed(self._names.catalog.get(name), package)
                return describe.configuration(new)
            publishing = bool(params.get("Publish"))
            return await self._update(name, lambda function: changed(function, package), publishing=publishing)

    async def _image(self, name: str, params: Mapping[str, Any], current: FunctionVersion) -> Mapping[str, Any]:
        at_once = bool(params.get("DryRun") or params.get("Publish"))  # the answer shows what only the image can tell
        found = await self._images.of(params["ImageUri"], _architecture(params, current), {}, to_the_end=at_once)

        def changed(function: Function | None) -> tuple[Function, FunctionVersion]:
            function = self._names.existing(function, name)
            latest = function.latest
            not_in_progress(latest)
            check_revision(params.get("RevisionId"), latest.revision_id)
            if latest.image is None:
                raise InvalidParameterValueException(
                    "Please don't provide ImageUri when updating a function with packageType Zip."
                )
            if found.pulling:  # until it is here everything stays as it is
                coming = dataclasses.replace(latest.image, pulling=found.pulling, pulling_for=found.pulling_for)
                return function, dataclasses.replace(latest, image=coming)
            code = dataclasses.replace(latest.image, uri=found.uri, image=found.image)
            return function, dataclasses.replace(latest, architecture=_architecture(params, latest), **images.fields(code))

        if params.get("DryRun"):
            return describe.configuration(changed(self._names.catalog.get(name))[1])
        return await self._update(name, changed, publishing=bool(params.get("Publish")))

    async def configuration(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        name = self._names.name(params)
        if "Layers" not in params:
            return await self._configure(name, params, None)
        latest = self._names.existing(self._names.catalog.get(name), name).latest
        images.check(params, image=latest.image is not None)
        if latest.image is not None:  # "Layers" lists none, which is what it has
            return await self._configure(name, params, None)
        code_key = latest.code_key
        async with self._layers.of(params["Layers"]) as chosen:
            await self._code.unzipped_bytes(code_key)  # so that it is known below, as that of code added meanwhile is
            return await self._configure(name, params, chosen)

    async def _configure(self, name: str, params: Mapping[str, Any], chosen: Chosen | None) -> Mapping[str, Any]:
        def changed(function: Function | None) -> tuple[Function, FunctionVersion]:
            function = self._names.existing(function, name)
            latest = function.latest
            images.check(params, image=latest.image is not None)
            validate.configuration(params, runtime=params.get("Runtime", latest.runtime), snap_start=latest.snap_start)
            not_in_progress(latest)
            check_revision(params.get("RevisionId"), latest.revision_id)
            new = dataclasses.replace(latest, **_fields(params, latest))
            if chosen is not None:
                check_size(self._code.known_bytes(latest.code_key), chosen.layers)
                new = dataclasses.replace(new, layers=chosen.layers, opt_key=chosen.opt_key)
            return function, new

        return await self._update(name, changed, publishing=False)

    async def _update(
        self, name: str, changed: Callable[[Function | None], tuple[Function, FunctionVersion]], *, publishing: bool
    ) -> Mapping[str, Any]:
        """Have `changed` give ``$LATEST`` anew, settle that, and describe what was made."""

        def edit(found: Function | None) -> tuple[Function, tuple[FunctionVersion, FunctionVersion]]:
            function, new = changed(found)
            if new != function.latest and not on_its_way(new):
                new = dataclasses.replace(new, generation=self._next_generation())
            new = dataclasses.replace(new, revision_id=str(uuid.uuid4()), last_modified=describe.modified(self._clock.wall()))
            made = dataclasses.replace(function, versions={**function.versions, LATEST: new})
            if not publishing:
                new = updating(new)
                made = dataclasses.replace(made, versions={**made.versions, LATEST: new})
                return self._settling.committed(made), (new, new)
            published, version = publish(made)
            if published is not made:
                version = pending(version)
            new = updating(published.latest)
            versions = {**published.versions, version.version: version, LATEST: new}
            return self._settling.committed(dataclasses.replace(published, versions=versions)), (new, version)

        latest, shown = await self._changes.change(name, edit)
        self._settling.begin(latest)
        self._pulling.begin(latest)
        return describe.configuration(shown, shown.version if publishing else None)


def _architecture(params: Mapping[str, Any], latest: FunctionVersion) -> Architecture:
    return Architecture(params["Architectures"][0]) if "Architectures" in params else latest.architecture


def _fields(params: Mapping[str, Any], latest: FunctionVersion) -> dict[str, Any]:
    """The record's fields that a call of UpdateFunctionConfiguration sets. What is not given stays."""
    found: dict[str, Any] = {
        field: params[member]
        for member, field in (
            ("Role", "role"), ("Handler", "handler"), ("Description", "description"), ("Timeout", "timeout_s"),
            ("MemorySize", "memory_mb"), ("Runtime", "runtime"),
        )
        if member in params
    }  # fmt: skip
    if "ImageConfig" in params and latest.image is not None:
        found["image"] = images.configured(latest.image, params["ImageConfig"])
    if "Environment" in params:
        found["environment"] = params["Environment"].get("Variables", {})
    if "DeadLetterConfig" in params:
        found["dead_letter_arn"] = params["DeadLetterConfig"].get("TargetArn") or None
    if "KMSKeyArn" in params:
        found["kms_key_arn"] = params["KMSKeyArn"] or None
    if "TracingConfig" in params:
        found["tracing_mode"] = params["TracingConfig"].get("Mode", latest.tracing_mode)
    if "EphemeralStorage" in params:
        found["tmp_mb"] = params["EphemeralStorage"]["Size"]
    if "SnapStart" in params:
        found["snap_start"] = params["SnapStart"].get("ApplyOn", latest.snap_start)
    if "LoggingConfig" in params:
        found["logging"] = logging(latest.name, params["LoggingConfig"], latest.logging)
    return found
