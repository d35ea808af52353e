"""Aliases: names for versions, with a second version that gets a share of the invocations. Texts are recorded from AWS."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from gateway.control import describe, provisioning
from gateway.control.call import Call, Rule
from gateway.control.changes import Changes
from gateway.control.names import Names
from gateway.control.paging import page
from gateway.control.provisioning import UNPUBLISHED
from gateway.control.versions import check_revision
from gateway.errors import InvalidParameterValueException, ResourceConflictException, ResourceNotFoundException
from gateway.records import LATEST, Alias, Function, FunctionVersion


class Aliases:
    """Use cases of aliases. `moved` is told the name of a function of which an alias was moved."""

    def __init__(self, *, names: Names, changes: Changes, moved: Callable[[str], None]) -> None:
        self._names = names
        self._changes = changes
        self._moved = moved

    def rules(self) -> Mapping[str, Rule]:
        return {
            "CreateAlias": self.create,
            "GetAlias": self.get,
            "ListAliases": self.list,
            "UpdateAlias": self.update,
            "DeleteAlias": self.delete,
        }

    async def create(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        name = self._names.name(params)

        def edit(function: Function | None) -> tuple[Function, Alias]:
            function = self._names.existing(function, name, params["FunctionVersion"])
            self._version(function, params["FunctionVersion"])
            if params["Name"] in function.aliases:
                raise ResourceConflictException(f"Alias already exists: {self._names.arn(name, params['Name'])}")
            alias = Alias(
                name=params["Name"],
                version=params["FunctionVersion"],
                description=params.get("Description", ""),
                weights=self._weights(function, params["FunctionVersion"], params.get("RoutingConfig", {})),
                revision_id=str(uuid.uuid4()),
            )
            return _with(function, alias), alias

        return self._described(name, await self._changes.change(name, edit))

    async def get(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params)
        function = self._names.existing(self._names.catalog.get(name), name)
        alias = function.aliases.get(call.params["Name"])
        if alias is None:
            raise self._names.no_alias(name, call.params["Name"])
        return self._described(name, alias)

    async def list(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params)
        function = self._names.existing(self._names.catalog.get(name), name)
        version = call.params.get("FunctionVersion")
        aliases = sorted(function.aliases.values(), key=lambda one: one.name)
        if version is not None:
            aliases = [one for one in aliases if version == one.version or version in one.weights]
        shown, marker = page(aliases, call.params, lambda one: one.name)
        return {"Aliases": [self._described(name, one) for one in shown], "NextMarker": marker}

    async def update(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        name = self._names.name(params)

        def edit(function: Function | None) -> tuple[Function, Alias]:
            function = self._names.existing(function, name)
            old = function.aliases.get(params["Name"])
            if old is None:
                raise ResourceNotFoundException(f"Alias not found: {self._names.arn(name, params['Name'])}")
            check_revision(params.get("RevisionId"), old.revision_id)
            version = params.get("FunctionVersion", old.version)
            self._version(function, version)
            routing = params.get("RoutingConfig", {"AdditionalVersionWeights": old.weights})
            alias = dataclasses.replace(
                old,
                version=version,
                description=params.get("Description", old.description),
                weights=self._weights(function, version, routing),
                revision_id=str(uuid.uuid4()),
            )
            if alias.provisioned is not None and version == LATEST:
                raise InvalidParameterValueException(UNPUBLISHED)
            return _with(function, provisioning.moved(old, alias)), alias

        alias = await self._changes.change(name, edit)
        self._moved(name)
        return self._described(name, alias)

    async def delete(self, call: Call) -> None:
        """A function URL of the alias stays, and answers 403 from now on; recorded."""
        name = self._names.name(call.params)
        gone = call.params["Name"]

        def edit(function: Function | None) -> tuple[Function, None]:
            function = self._names.existing(function, name)
            if gone not in function.aliases:  # no error on AWS
                return function, None
            return (
                dataclasses.replace(
                    function,
                    aliases={key: value for key, value in function.aliases.items() if key != gone},
                    policies={key: value for key, value in function.policies.items() if key != gone},
                ),
                None,
            )

        await self._changes.change(name, edit)

    def _version(self, function: Function, version: str) -> FunctionVersion:
        found = function.versions.get(version)
        if found is None:
            raise self._names.no_function(function.name, version)
        return found

    def _weights(self, function: Function, version: str, routing: Mapping[str, Any]) -> Mapping[str, float]:
        """The share of the second version, if there is one."""
        weights: Mapping[str, float] = routing.get("AdditionalVersionWeights", {})
        if len(weights) > 1:
            raise InvalidParameterValueException("Number of items in AdditionalVersionWeights cannot be greater than 1")
        for other in weights:
            if other == version:
                raise InvalidParameterValueException(
                    f"Invalid function version {other}. Function version {other} is already included in routing configuration."
                )
            if version == LATEST:
                raise InvalidParameterValueException(
                    "$LATEST is not supported for an alias pointing to more than 1 version", Type=None
                )
            first, second = self._version(function, version), self._version(function, other)
            if (first.role, first.dead_letter_arn) != (second.role, second.dead_letter_arn):
                raise InvalidParameterValueException(
                    "An alias can point to two versions only if they have the same execution role and the same dead-letter queue."
                )
        return weights

    def _described(self, name: str, alias: Alias) -> Mapping[str, Any]:
        return describe.alias(alias, self._names.arn(name, alias.name))


def _with(function: Function, alias: Alias) -> Function:
    return dataclasses.replace(function, aliases={**function.aliases, alias.name: alias})
