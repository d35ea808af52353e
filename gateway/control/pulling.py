"""Images that take longer to come than a caller waits: Pending or InProgress until they are here, then Active, or Failed and why.

CreateFunction and UpdateFunctionCode wait for an image for `Images.patience_s`: what is on this machine is there at once, and
what is wrong with a name is mostly known by then, so its error is the answer, as on AWS. What takes longer is on its way
(`ImageCode.pulling`), and settled from here: a new function cannot be invoked before, one that is updated runs its old image
meanwhile, and keeps it where the new one does not come. A gateway that ended meanwhile goes on at its next start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Final

from gateway.control import images
from gateway.control.changes import Changes
from gateway.control.images import Images
from gateway.control.settling import settled
from gateway.records import Function, FunctionVersion, ImageCode
from gateway.store.db import StoreError
from sandbox.errors import DriverUnavailable, ImageError, SandboxError
from sandbox.spec import Architecture, Image
from sandbox.tasks import Tasks

AGAIN_S: Final = 5.0  #: between attempts, where it is our own machinery that fails
ATTEMPTS: Final = 60

_log = logging.getLogger(__name__)


class Pulling:
    """`next_generation` gives a number that no function version has had before."""

    def __init__(self, *, found_images: Images, changes: Changes, next_generation: Callable[[], int]) -> None:
        self._images = found_images
        self._changes = changes
        self._next_generation = next_generation
        self._tasks = Tasks(lambda error: _log.error("an image stays on its way", exc_info=error))

    def begin(self, latest: FunctionVersion) -> None:
        """Settle what was committed as this ``$LATEST``, when its image is here. Nothing where none is on its way."""
        if latest.image is not None and latest.image.pulling:
            self._tasks.start(self._settle(latest.name, latest.image), f"image of {latest.name}")

    def recover(self, functions: Iterable[Function]) -> None:
        """Go on, at start, with what a former process left on its way."""
        for function in functions:
            self.begin(function.latest)

    async def close(self) -> None:
        self._tasks.cancel()
        await self._tasks.join()

    async def _settle(self, name: str, code: ImageCode) -> None:
        image, reason, reason_code = await self._found(code)

        def edit(function: Function | None) -> tuple[Function | None, None]:
            now = function.latest.image if function is not None else None
            if function is None or now is None or (now.pulling, now.pulling_for) != (code.pulling, code.pulling_for):
                return function, None  # deleted meanwhile, perhaps made anew
            if image is None:
                return _failed(function, reason, reason_code), None
            return settled(self._with(function, image)), None

        while True:
            try:
                return await self._changes.change(name, edit)
            except StoreError:
                _log.exception("function %s stays as it is until the database works again", name)
                await asyncio.sleep(AGAIN_S)

    async def _found(self, code: ImageCode) -> tuple[Image | None, str, str]:
        """The image, or why there is none: in words, and as AWS's StateReasonCode."""
        for attempt in range(ATTEMPTS):
            try:
                return await self._images.find(code.pulling, Architecture(code.pulling_for)), "", ""
            except ImageError as error:
                return None, str(error), images.reason_code(error)
            except DriverUnavailable as error:
                if attempt == ATTEMPTS - 1:
                    return None, str(error), "InternalError"
                _log.warning("image %s is asked for again: %s", code.pulling, error)
                await asyncio.sleep(AGAIN_S)
            except SandboxError as error:
                return None, str(error), "InternalError"
        raise AssertionError

    def _with(self, function: Function, image: Image) -> Function:
        """Every version that waits for the image has it."""
        generation = self._next_generation()
        versions = {
            number: dataclasses.replace(
                version,
                generation=generation,
                architecture=Architecture(version.image.pulling_for),
                **images.fields(dataclasses.replace(images.here(version.image), uri=version.image.pulling, image=image)),
            )
            if version.image is not None and version.image.pulling
            else version
            for number, version in function.versions.items()
        }
        return dataclasses.replace(function, versions=versions)


def _failed(function: Function, reason: str, reason_code: str) -> Function:
    """New versions cannot be used; what was to be changed stays as it was."""
    versions = {}
    for number, version in function.versions.items():
        if version.image is not None and version.image.pulling:
            kept = dataclasses.replace(version, image=images.here(version.image), revision_id=str(uuid.uuid4()))
            if version.state == "Pending":
                kept = dataclasses.replace(kept, state="Failed", state_reason=reason, state_reason_code=reason_code)
            version = dataclasses.replace(
                kept, last_update_status="Failed", last_update_reason=reason, last_update_reason_code=reason_code
            )
        versions[number] = version
    return dataclasses.replace(function, versions=versions)
