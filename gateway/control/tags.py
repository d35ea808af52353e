"""Tags of functions. Texts are recorded from AWS."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gateway import arn
from gateway.control import validate
from gateway.control.call import Call, Rule
from gateway.control.changes import Changes
from gateway.control.names import Names
from gateway.errors import InvalidParameterValueException, ResourceNotFoundException
from gateway.records import Function


class Tags:
    """Use cases of tags."""

    def __init__(self, *, names: Names, changes: Changes) -> None:
        self._names = names
        self._changes = changes

    def rules(self) -> Mapping[str, Rule]:
        return {"ListTags": self.list, "TagResource": self.add, "UntagResource": self.remove}

    async def list(self, call: Call) -> Mapping[str, Any]:
        name = self._name(call.params["Resource"])
        return {"Tags": self._names.existing(self._names.catalog.get(name), name).tags}

    async def add(self, call: Call) -> None:
        given = call.params["Tags"]
        if not given:
            raise InvalidParameterValueException("An error occurred and the request cannot be processed.")
        await self._change(call.params["Resource"], lambda tags: {**tags, **given})

    async def remove(self, call: Call) -> None:
        gone = frozenset(call.params["TagKeys"])
        await self._change(call.params["Resource"], lambda tags: {key: value for key, value in tags.items() if key not in gone})

    async def _change(self, resource: str, changed: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        name = self._name(resource)

        def edit(function: Function | None) -> tuple[Function, None]:
            function = self._names.existing(function, name)
            tags = changed(function.tags)
            validate.tags(tags)
            return dataclasses.replace(function, tags=tags), None

        await self._changes.change(name, edit)

    def _name(self, resource: str) -> str:
        """The function that an ARN names; the service model has seen to it that it is an ARN of something."""
        match resource.split(":")[5]:
            case "function":
                ref = arn.parse(resource, region=self._names.region, account_id=self._names.account_id)
                if ref.qualifier is not None:
                    raise InvalidParameterValueException(
                        "Tags on function aliases and versions are not supported. Please specify a function ARN."
                    )
                return ref.name
            case "event-source-mapping":
                raise ResourceNotFoundException(f"Event source mapping not found: {resource}")
            case "capacity-provider":
                raise ResourceNotFoundException(f"Capacity provider not found: {resource}")
            case "code-signing-config":
                raise ResourceNotFoundException(f"The Lambda code signing configuration {resource} can not be found.", Type=None)
            case _:
                raise ResourceNotFoundException
