"""Functions as a whole: create, look at, delete, list."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from gateway.clock import Clock
from gateway.control import describe, images, validate
from gateway.control.call import Call, Rule
from gateway.control.changes import Changes
from gateway.control.code import CodeLinks, CodeStore
from gateway.control.images import Images
from gateway.control.layer_use import LayerUse, check_size
from gateway.control.names import Names, is_alias
from gateway.control.packages import archive_of
from gateway.control.paging import page, version_key
from gateway.control.pulling import Pulling
from gateway.control.settling import Settling, pending
from gateway.control.usage import Usage
from gateway.control.versions import publish
from gateway.errors import (
    CodeSigningConfigNotFoundException,
    InvalidParameterValueException,
    ResourceConflictException,
)
from gateway.records import LATEST, Function, FunctionVersion, LoggingConfig
from sandbox.spec import Architecture


def logging(name: str, given: Mapping[str, Any], current: LoggingConfig | None = None) -> LoggingConfig:
    """The logging configuration that a call leaves a function with. Recorded: levels come with JSON, and are INFO at first."""
    current = current or LoggingConfig(log_group=f"/aws/lambda/{name}")
    log_format = given.get("LogFormat", current.log_format)
    log_group = given.get("LogGroup", current.log_group)
    if log_format != "JSON":
        if "ApplicationLogLevel" in given or "SystemLogLevel" in given:
            raise InvalidParameterValueException("ApplicationLogLevel and SystemLogLevel can only be set when LogFormat is JSON.")
        return LoggingConfig(log_format=log_format, log_group=log_group)
    return LoggingConfig(
        log_format=log_format,
        log_group=log_group,
        application_level=given.get("ApplicationLogLevel", current.application_level or "INFO"),
        system_level=given.get("SystemLogLevel", current.system_level or "INFO"),
    )


class Functions:
    """Use cases of whole functions. `next_generation` gives a number that no function version has had before."""

    def __init__(
        self,
        *,
        names: Names,
        changes: Changes,
        code: CodeStore,
        links: CodeLinks,
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
        self._links = links
        self._layers = layers
        self._images = found_images
        self._settling = settling
        self._pulling = pulling
        self._usage = usage
        self._clock = clock
        self._next_generation = next_generation

    def rules(self) -> Mapping[str, Rule]:
        return {
            "CreateFunction": self.create,
            "GetFunction": self.get,
            "GetFunctionConfiguration": self.configuration,
            "DeleteFunction": self.delete,
            "ListFunctions": self.list,
            "GetFunctionCodeSigningConfig": self.code_signing,
            "GetRuntimeManagementConfig": self.runtime_management,
        }

    async def create(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        name = self._names.name(params)
        validate.name(name)
        if (image := params.get("PackageType", "Zip") == "Image") and not params["Code"].get("ImageUri"):
            raise InvalidParameterValueException("Please provide a source for function code.")
        images.check(params, image=image)
        if not image and (not params.get("Runtime") or not params.get("Handler")):
            raise InvalidParameterValueException(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        if signing := params.get("CodeSigningConfigArn"):
            raise CodeSigningConfigNotFoundException(
                "The code signing configuration cannot be found. "
                f"Check that the provided configuration is not deleted: {signing}."
            )
        validate.configuration(params, runtime=params.get("Runtime"))
        validate.tags(params.get("Tags", {}))
        self._must_be_new(self._names.catalog.get(name), name)
        if image:
            return await self._create_image(name, params)
        archive = archive_of(params["Code"])

        self._usage.room_for(len(archive))
        async with self._layers.of(params.get("Layers", ())) as chosen, self._code.add(archive) as package:
            check_size(package.unzipped_bytes, chosen.layers)
            code = {
                "runtime": params["Runtime"],
                "handler": params["Handler"],
                "code_sha256": package.sha256,
                "code_size_bytes": package.size_bytes,
                "code_key": package.key,
                "layers": chosen.layers,
                "opt_key": chosen.opt_key,
            }
            return await self._add(name, params, code)

    async def _create_image(self, name: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        code = await self._images.of(params["Code"]["ImageUri"], _architecture(params), params.get("ImageConfig", {}))
        return await self._add(name, params, {"runtime": "", "handler": "", "code_key": "", **images.fields(code)})

    async def _add(self, name: str, params: Mapping[str, Any], code: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make a function of these fields of its record, settle that, and describe it."""

        def edit(function: Function | None) -> tuple[Function, tuple[FunctionVersion, FunctionVersion]]:
            self._must_be_new(function, name)
            latest = pending(self._new(name, params, code))
            made = Function(name=name, versions={LATEST: latest}, tags=params.get("Tags", {}))
            if not params.get("Publish"):
                return self._settling.committed(made), (latest, latest)
            made, version = publish(made)
            return self._settling.committed(made), (made.latest, version)

        latest, shown = await self._changes.change(name, edit)
        self._settling.begin(latest)
        self._pulling.begin(latest)
        return describe.configuration(shown)

    async def get(self, call: Call) -> Mapping[str, Any]:
        ref = self._names.ref(call.params)
        function = self._names.catalog.get(ref.name)
        version = self._names.version(function, ref)
        function = self._names.existing(function, ref.name)
        reserved = function.reserved_concurrency
        return {
            "Configuration": describe.configuration(version, ref.qualifier),
            "Code": describe.code(version, call.endpoint + self._links.make(version.code_key)),
            "Tags": function.tags or None,
            "Concurrency": None if reserved is None else {"ReservedConcurrentExecutions": reserved},
        }

    async def configuration(self, call: Call) -> Mapping[str, Any]:
        ref = self._names.ref(call.params)
        return describe.configuration(self._names.version(self._names.catalog.get(ref.name), ref), ref.qualifier)

    async def delete(self, call: Call) -> Mapping[str, Any]:
        ref = self._names.ref(call.params)

        def edit(function: Function | None) -> tuple[Function | None, None]:
            function = self._names.existing(function, *ref)
            match ref.qualifier:
                case None:
                    return None, None
                case "$LATEST":
                    raise InvalidParameterValueException("$LATEST version cannot be deleted without deleting the function.")
                case qualifier if is_alias(qualifier):
                    raise InvalidParameterValueException("Deletion of aliases is not currently supported.")
                case number:
                    return _without(function, number), None

        await self._changes.change(ref.name, edit)
        return {"StatusCode": 204}

    async def list(self, call: Call) -> Mapping[str, Any]:
        functions = self._names.catalog.functions()
        if call.params.get("FunctionVersion") != "ALL":
            shown, marker = page(functions, call.params, lambda function: function.name)
            return {"Functions": [describe.listed(one.latest) for one in shown], "NextMarker": marker}

        def key(version: FunctionVersion) -> str:
            return f"{version.name}\0{version_key(version.version)}"

        versions = sorted((version for function in functions for version in function.versions.values()), key=key)
        shown_versions, marker = page(versions, call.params, key)
        return {"Functions": [describe.listed(one, one.version) for one in shown_versions], "NextMarker": marker}

    async def code_signing(self, call: Call) -> Mapping[str, Any]:
        """No function here has such a configuration, which AWS answers with nothing at all. Recorded; Terraform asks."""
        name = self._names.name(call.params)
        self._names.existing(self._names.catalog.get(name), name)
        return {}

    async def runtime_management(self, call: Call) -> Mapping[str, Any]:
        """Runtimes are the host's, so that they are updated whenever those are: AWS's Auto."""
        ref = self._names.ref(call.params)
        version = self._names.version(self._names.catalog.get(ref.name), ref)
        return {"UpdateRuntimeOn": "Auto", "FunctionArn": self._names.arn(ref.name, ref.qualifier or version.version)}

    def _must_be_new(self, function: Function | None, name: str) -> None:
        if function is not None:
            raise ResourceConflictException(f"Function already exist: {name}")

    def _new(self, name: str, params: Mapping[str, Any], code: Mapping[str, Any]) -> FunctionVersion:
        environment = params.get("Environment")
        return FunctionVersion(
            account_id=self._names.account_id,
            region=self._names.region,
            name=name,
            version=LATEST,
            generation=self._next_generation(),
            **code,
            role=params["Role"],
            architecture=_architecture(params),
            memory_mb=params.get("MemorySize", 128),
            timeout_s=params.get("Timeout", 3),
            tmp_mb=params.get("EphemeralStorage", {}).get("Size", 512),
            description=params.get("Description", ""),
            environment=None if environment is None else environment.get("Variables", {}),
            logging=logging(name, params.get("LoggingConfig", {})),
            tracing_mode=params.get("TracingConfig", {}).get("Mode", "PassThrough"),
            dead_letter_arn=params.get("DeadLetterConfig", {}).get("TargetArn") or None,
            kms_key_arn=params.get("KMSKeyArn") or None,
            snap_start=params.get("SnapStart", {}).get("ApplyOn", "None"),
            last_modified=describe.modified(self._clock.wall()),
            revision_id=str(uuid.uuid4()),
        )


def _architecture(params: Mapping[str, Any]) -> Architecture:
    return Architecture(params.get("Architectures", ["x86_64"])[0])


def _without(function: Function, number: str) -> Function:
    """The function without one published version. There being none is no error on AWS."""
    if number not in function.versions:
        return function
    routings = [(alias.name, one) for alias in function.aliases.values() for one in (alias, alias.former) if one is not None]
    users = {name for name, one in routings if number == one.version or number in one.weights}
    if users:
        raise ResourceConflictException(
            f"Unable to delete version because the following aliases reference it: [{', '.join(sorted(users))}]"
        )
    return dataclasses.replace(
        function,
        versions={key: value for key, value in function.versions.items() if key != number},
        policies={key: value for key, value in function.policies.items() if key != number},
    )
