"""Publishing: a version is ``$LATEST`` as it was, under a number, for good."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any, Final

from gateway.control import describe
from gateway.control.call import Call, Rule
from gateway.control.changes import Changes
from gateway.control.names import Names
from gateway.control.paging import page, version_key
from gateway.control.settling import not_in_progress
from gateway.errors import InvalidParameterValueException, PreconditionFailedException
from gateway.records import LATEST, Function, FunctionVersion

STALE_REVISION: Final = (
    "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest "
    "Revision Id"
)


def check_revision(given: str | None, current: str) -> None:
    """Raises PreconditionFailedException where the caller knows another revision. Recorded."""
    if given is not None and given != current:
        raise PreconditionFailedException(STALE_REVISION)


def publish(function: Function, description: str | None = None) -> tuple[Function, FunctionVersion]:
    """The function with its ``$LATEST`` published, and the version that this is.

    When neither code nor configuration changed since the last version was published, it is that one.
    """
    latest = function.latest
    last = function.versions.get(str(function.next_version - 1))
    if last is not None and last.generation == latest.generation:
        return function, last
    number = str(function.next_version)
    version = dataclasses.replace(
        latest,
        version=number,
        revision_id=str(uuid.uuid4()),
        description=latest.description if description is None else description,
    )
    versions = {**function.versions, LATEST: dataclasses.replace(latest, revision_id=str(uuid.uuid4())), number: version}
    return dataclasses.replace(function, versions=versions, next_version=function.next_version + 1), version


class Versions:
    """Use cases of versions."""

    def __init__(self, *, names: Names, changes: Changes) -> None:
        self._names = names
        self._changes = changes

    def rules(self) -> Mapping[str, Rule]:
        return {"PublishVersion": self.publish, "ListVersionsByFunction": self.list}

    async def publish(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params)

        def edit(function: Function | None) -> tuple[Function, FunctionVersion]:
            function = self._names.existing(function, name)
            latest = function.latest
            not_in_progress(latest)
            check_revision(call.params.get("RevisionId"), latest.revision_id)
            wanted = call.params.get("CodeSha256")
            if wanted and wanted != latest.code_sha256:
                raise InvalidParameterValueException(
                    f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({latest.code_sha256}). "
                    "Please try again with the CodeSHA256 in $LATEST."
                )
            return publish(function, call.params.get("Description"))

        version = await self._changes.change(name, edit)
        return describe.configuration(version, version.version)

    async def list(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params)
        function = self._names.existing(self._names.catalog.get(name), name)
        versions = sorted(function.versions.values(), key=lambda one: version_key(one.version))
        shown, marker = page(versions, call.params, lambda one: version_key(one.version))
        return {"Versions": [describe.listed(one, one.version) for one in shown], "NextMarker": marker}
