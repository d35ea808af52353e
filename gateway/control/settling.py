"""From Pending to Active, and from InProgress to Successful.

A function's code is unpacked and its record committed before CreateFunction answers, so that every fault of a package is answered
at once. What is left for the time in which AWS says Pending is to get ready for the first invocation: `prepare`. Where there is
nothing to prepare, the answer says Pending as on AWS and what is committed is Active already: nobody runs into an update in
progress that has nothing to do.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from gateway.control.changes import Changes
from gateway.errors import ResourceConflictException
from gateway.records import LATEST, Function, FunctionVersion
from gateway.store.db import StoreError
from sandbox.tasks import Tasks

#: What is shown meanwhile, for updates too. Recorded.
REASON: Final = "The function is being created."
REASON_CODE: Final = "Creating"

PREPARE_MAX_S: Final = 10.0
_AGAIN_S: Final = 5.0

Prepare = Callable[[FunctionVersion], Awaitable[None]]

_log = logging.getLogger(__name__)


def in_progress(version: FunctionVersion) -> bool:
    return version.state == "Pending" or version.last_update_status == "InProgress"


def on_its_way(version: FunctionVersion) -> bool:
    """Whether it waits for an image: `control.pulling` settles it."""
    return version.image is not None and bool(version.image.pulling)


def not_in_progress(version: FunctionVersion) -> None:
    """Raises ResourceConflictException while another change of the function is being settled. Recorded."""
    if in_progress(version):
        raise ResourceConflictException(
            f"The operation cannot be performed at this time. An update is in progress for resource: {version.unqualified_arn}"
        )


def pending(version: FunctionVersion) -> FunctionVersion:
    """A new version or function, before it is settled."""
    return dataclasses.replace(version, state="Pending", state_reason=REASON, state_reason_code=REASON_CODE)


def updating(version: FunctionVersion) -> FunctionVersion:
    """A version that was changed, before that is settled."""
    return dataclasses.replace(
        version, last_update_status="InProgress", last_update_reason=REASON, last_update_reason_code=REASON_CODE
    )


def settled(function: Function) -> Function:
    """The function with nothing in progress but images that are on their way."""
    versions = {
        key: dataclasses.replace(
            version,
            state="Active",
            state_reason=None,
            state_reason_code=None,
            last_update_status="Successful",
            last_update_reason=None,
            last_update_reason_code=None,
            revision_id=str(uuid.uuid4()),
        )
        if in_progress(version) and not on_its_way(version)
        else version
        for key, version in function.versions.items()
    }
    return dataclasses.replace(function, versions=versions)


class Settling:
    """Settles functions: in the background when there is a `prepare`, which may take ten seconds and may fail, else at once."""

    def __init__(self, *, changes: Changes, prepare: Prepare | None = None) -> None:
        self._changes = changes
        self._prepare = prepare
        self._tasks = Tasks(lambda error: _log.error("settling failed", exc_info=error))

    def committed(self, function: Function) -> Function:
        """What is to be committed of a function that was made or changed just now."""
        return settled(function) if self._prepare is None else function

    def begin(self, latest: FunctionVersion) -> None:
        """Settle what was committed as this ``$LATEST``, soon."""
        if self._prepare is None:
            return
        self._tasks.start(self._settle(latest, self._prepare), f"settle function {latest.name}")

    async def recover(self, functions: Iterable[Function]) -> None:
        """Settle, at start, what a former process left in progress. Their code is on disk: that came first."""
        for function in functions:
            if any(in_progress(version) for version in function.versions.values()):
                await self._commit(function.latest)

    async def close(self) -> None:
        """Stop; what is in progress is settled at the next start."""
        self._tasks.cancel()
        await self._tasks.join()

    async def _settle(self, latest: FunctionVersion, prepare: Prepare) -> None:
        try:
            async with asyncio.timeout(PREPARE_MAX_S):
                await prepare(latest)
        except Exception:
            _log.warning("function %s could not be prepared for its first invocation", latest.name, exc_info=True)
        while True:
            try:
                return await self._commit(latest)
            except StoreError:
                _log.exception("function %s stays as it is until the database works again", latest.name)
                await asyncio.sleep(_AGAIN_S)

    async def _commit(self, latest: FunctionVersion) -> None:
        def edit(function: Function | None) -> tuple[Function | None, None]:
            # deleted meanwhile, perhaps made anew: then it is not this one that is to be settled
            if function is None or function.versions[LATEST].revision_id != latest.revision_id:
                return function, None
            return settled(function), None

        await self._changes.change(latest.name, edit)
