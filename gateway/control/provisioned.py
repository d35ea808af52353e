"""Provisioned concurrency: asked for here, provided by the pool, which is asked how far it is. Texts are recorded from AWS.

An alias that has it moves in two steps. UpdateAlias says where to; its invocations go on to what it was (`Alias.former`) until
the pool tells that the new version is ready. A version that cannot be provisioned never gets the traffic: the configuration
FAILED, with the reason, until the alias is moved again.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.clock import Clock
from gateway.control import provisioning
from gateway.control.call import Call, Rule
from gateway.control.changes import Changes
from gateway.control.names import Names, is_alias
from gateway.control.paging import page
from gateway.control.usage import Usage
from gateway.errors import (
    InvalidParameterValueException,
    ProvisionedConcurrencyConfigNotFoundException,
    ResourceConflictException,
)
from gateway.records import LATEST, Alias, Function, FunctionVersion, Provisioned
from gateway.scheduler.provision import Standing, Status
from sandbox.tasks import Tasks

#: How far a version is; None where nothing is provisioned of it.
StandingOf = Callable[[FunctionVersion], Standing | None]

_NEITHER: Final = "The function resource provided must be an alias or a published version."

_log = logging.getLogger(__name__)


class ProvisionedConcurrency:
    """Use cases of provisioned concurrency. `watch` says whom to ask how far a version is."""

    def __init__(self, *, names: Names, changes: Changes, usage: Usage, clock: Clock) -> None:
        self._names = names
        self._changes = changes
        self._usage = usage
        self._clock = clock
        self._standing_of: StandingOf = lambda version: None
        self._tasks = Tasks(lambda error: _log.error("an alias could not be moved", exc_info=error))

    def rules(self) -> Mapping[str, Rule]:
        return {
            "PutProvisionedConcurrencyConfig": self.put,
            "GetProvisionedConcurrencyConfig": self.get,
            "ListProvisionedConcurrencyConfigs": self.list,
            "DeleteProvisionedConcurrencyConfig": self.delete,
        }

    def watch(self, standing_of: StandingOf) -> None:
        """Ask here from now on, and let aliases go where their versions are ready."""
        self._standing_of = standing_of
        for function in self._names.catalog.functions():
            self.settle(function.name)

    async def put(self, call: Call) -> Mapping[str, Any]:
        ref = self._names.ref(call.params)
        name, qualifier = ref.name, ref.qualifier
        wanted = call.params["ProvisionedConcurrentExecutions"]
        if qualifier is None or qualifier == LATEST:
            raise InvalidParameterValueException(provisioning.UNPUBLISHED)
        asked = Provisioned(executions=wanted, last_modified=_modified(self._clock.wall()))

        def edit(found: Function | None) -> tuple[Function, None]:
            function = self._with(found, name, qualifier)
            self._check_single(function, qualifier)
            self._usage.check_provisioned(function, wanted, provisioning.total(function, but=qualifier))
            return _provisioned(function, qualifier, asked), None

        async with self._usage.reserving:
            await self._changes.change(name, edit)
        function = self._names.existing(self._names.catalog.get(name), name)
        return self._described(function, qualifier, asked)

    async def get(self, call: Call) -> Mapping[str, Any]:
        function, qualifier = self._asked_for(call)
        found = dict(provisioning.configurations(function)).get(qualifier)
        if found is None:
            raise ProvisionedConcurrencyConfigNotFoundException
        return self._described(function, qualifier, found)

    async def list(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params)
        function = self._names.existing(self._names.catalog.get(name), name)
        found = sorted(provisioning.configurations(function), key=lambda one: one[0])
        shown, marker = page(found, call.params, lambda one: one[0])
        configurations = [
            {"FunctionArn": self._names.arn(name, qualifier), **self._described(function, qualifier, one)}
            for qualifier, one in shown
        ]
        return {"ProvisionedConcurrencyConfigs": configurations, "NextMarker": marker}

    async def delete(self, call: Call) -> None:
        """That there is none is no error on AWS."""
        function, qualifier = self._asked_for(call)

        def edit(found: Function | None) -> tuple[Function, None]:
            return _provisioned(self._with(found, function.name, qualifier), qualifier, None), None

        await self._changes.change(function.name, edit)

    def settle(self, name: str) -> None:
        """Let a function's aliases go where they were moved to, if that is ready; to be called whenever it may be."""
        function = self._names.catalog.get(name)
        if function is not None and any(self._arrived(function, alias) for alias in function.aliases.values()):
            self._tasks.start(self._settle(name), f"move aliases of {name}")

    async def _settle(self, name: str) -> None:
        def edit(function: Function | None) -> tuple[Function | None, None]:
            if function is None:
                return None, None
            aliases = {
                key: dataclasses.replace(alias, former=None) if self._arrived(function, alias) else alias
                for key, alias in function.aliases.items()
            }
            return dataclasses.replace(function, aliases=aliases), None

        await self._changes.change(name, edit)

    async def close(self) -> None:
        """Finish what was begun."""
        await self._tasks.join()

    def _arrived(self, function: Function, alias: Alias) -> bool:
        """Whether an alias that moves can be let go."""
        if alias.former is None:
            return False
        return alias.provisioned is None or self._standing(function, alias, alias.provisioned).status is Status.READY

    def _asked_for(self, call: Call) -> tuple[Function, str]:
        ref = self._names.ref(call.params)
        if ref.qualifier is None or ref.qualifier == LATEST:
            raise InvalidParameterValueException(_NEITHER)
        return self._with(self._names.catalog.get(ref.name), ref.name, ref.qualifier), ref.qualifier

    def _with(self, function: Function | None, name: str, qualifier: str) -> Function:
        """The function, if it has such an alias or version; else the error that there is none."""
        if is_alias(qualifier):
            if function is None or qualifier not in function.aliases:
                raise self._names.no_alias(name, qualifier)
        elif function is None or qualifier not in function.versions:
            raise self._names.no_function(name, qualifier)
        return function

    def _check_single(self, function: Function, qualifier: str) -> None:
        """A version is provisioned by itself or through one alias."""
        alias = function.aliases.get(qualifier)
        if alias is None:
            if any(one.provisioned is not None and qualifier in provisioning.parts(one, 0) for one in function.aliases.values()):
                raise ResourceConflictException("Version is pointed by a Provisioned Concurrency alias")
            return
        versions = provisioning.parts(alias, 0)
        if LATEST in versions:
            raise InvalidParameterValueException(provisioning.UNPUBLISHED)
        others = [one for one in function.aliases.values() if one is not alias and one.provisioned is not None]
        if any(function.versions[number].provisioned for number in versions) or any(
            not versions.keys().isdisjoint(provisioning.parts(one, 0)) for one in others
        ):
            raise ResourceConflictException(
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
            )

    def _described(self, function: Function, qualifier: str, asked: Provisioned) -> Mapping[str, Any]:
        """What all answers have. While an alias moves, the counters are of what serves, the status of what it moves to."""
        alias = function.aliases.get(qualifier)
        if alias is None:
            now = then = self._of(function, {qualifier: asked.executions})
        else:
            now = self._standing(function, alias.former or alias, asked)
            then = self._standing(function, alias, asked)
        return {
            "RequestedProvisionedConcurrentExecutions": asked.executions,
            "AllocatedProvisionedConcurrentExecutions": min(now.allocated, asked.executions),
            "AvailableProvisionedConcurrentExecutions": min(now.available, asked.executions),
            "Status": then.status.value,
            "StatusReason": then.reason,
            "LastModified": asked.last_modified,
        }

    def _standing(self, function: Function, alias: Alias, asked: Provisioned) -> Standing:
        return self._of(function, provisioning.parts(alias, asked.executions))

    def _of(self, function: Function, wanted: Mapping[str, int]) -> Standing:
        """How far several versions are together. Where nobody says anything of one, nothing has begun."""
        none = Standing(0, 0, 0, Status.IN_PROGRESS)
        found = [self._standing_of(function.versions[number]) or none for number, count in wanted.items() if count]
        failed = next((one for one in found if one.status is Status.FAILED), None)
        ready = all(one.status is Status.READY for one in found)
        return Standing(
            sum(wanted.values()),
            sum(one.allocated for one in found),
            sum(one.available for one in found),
            failed.status if failed is not None else Status.READY if ready else Status.IN_PROGRESS,
            failed.reason if failed is not None else None,
        )


def _provisioned(function: Function, qualifier: str, asked: Provisioned | None) -> Function:
    alias = function.aliases.get(qualifier)
    if alias is not None:
        former = alias.former if asked is not None else None
        new = dataclasses.replace(alias, provisioned=asked, former=former)
        return dataclasses.replace(function, aliases={**function.aliases, qualifier: new})
    version = dataclasses.replace(function.versions[qualifier], provisioned=asked)
    return dataclasses.replace(function, versions={**function.versions, qualifier: version})


def _modified(wall_s: float) -> str:
    """``2019-12-31T20:28:49+0000``."""
    return datetime.datetime.fromtimestamp(wall_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
