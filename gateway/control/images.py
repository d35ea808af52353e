"""Image functions: what their ImageUri means, found out once and kept, and what their ImageConfig changes.

Texts are AWS's as recorded in November 2025, or as its users quote them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from gateway.errors import InvalidParameterValueException, NotImplementedHere, ServiceException
from gateway.records import FunctionVersion, ImageCode
from sandbox.errors import ImageError, SandboxError
from sandbox.spec import IMAGE_SETTINGS_MAX_BYTES, IMAGE_URI_MAX_CHARS, Architecture, Image, settings_bytes

FindImage = Callable[[str, Architecture], Awaitable[Image]]

#: As the configuration of a function with an image shows it.
URI_NEEDED: Final = "Please provide ImageUri when updating a function with packageType Image."
PATIENCE_S: Final = 5.0  #: so long CreateFunction waits for an image; clients give up after a minute, mostly
NOT_HERE: Final = "pulling"  #: in the place of the id of an image that is on its way
_ZIP_ONLY: Final = ("Handler", "Runtime", "Layers")


class Images:
    """`find` asks the driver; None where there is none that runs images."""

    def __init__(self, find: FindImage | None, patience_s: float = PATIENCE_S) -> None:
        self._find = find
        self._patience_s = patience_s
        self._looking: dict[tuple[str, Architecture], asyncio.Task[Image]] = {}

    async def find(self, uri: str, architecture: Architecture) -> Image:
        """The image as it is now, however long it takes; asked for once for all who want it. Raises SandboxError, ImageError."""
        return await asyncio.shield(self._look(uri, architecture))

    def _look(self, uri: str, architecture: Architecture) -> asyncio.Task[Image]:
        task = self._looking.get((uri, architecture))
        if task is None:
            task = asyncio.get_running_loop().create_task(self._asked(uri, architecture), name=f"image {uri}")
            self._looking[uri, architecture] = task
            task.add_done_callback(functools.partial(self._found, (uri, architecture)))
        return task

    async def _asked(self, uri: str, architecture: Architecture) -> Image:
        if self._find is None:
            raise NotImplementedHere("There is nothing here that runs container images: use PackageType Zip.")
        return await self._find(uri, architecture)

    def _found(self, which: tuple[str, Architecture], task: asyncio.Task[Image]) -> None:
        """Perhaps nobody waits any more."""
        del self._looking[which]
        if not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """Look for nothing any more."""
        looking = list(self._looking.values())
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)

    async def of(self, uri: str, architecture: Architecture, config: Mapping[str, Any], *, to_the_end: bool = False) -> ImageCode:
        """The image as it is now, or, where it takes longer to come than anybody waits, one that is on its way.

        Not `to_the_end`: then it is waited for. Raises InvalidParameterValueException, ServiceException.
        """
        if len(uri) > IMAGE_URI_MAX_CHARS:  # AWS has its own words for what cannot be a name
            raise InvalidParameterValueException(f"Source image {uri[:100]}… is not valid. Provide a valid source image.")
        try:
            looking = self._look(uri, architecture)
            await asyncio.wait({looking}, timeout=None if to_the_end else self._patience_s)
            if not looking.done():
                return configured(on_its_way(uri, architecture), config)
            image = looking.result()
        except ImageError as error:
            raise InvalidParameterValueException(str(error)) from error
        except SandboxError as error:
            raise ServiceException(f"The source image {uri} could not be looked at: {error}") from error
        return configured(ImageCode(uri=uri, image=image), config)


def on_its_way(uri: str, architecture: Architecture) -> ImageCode:
    """What is known of an image before it is here."""
    unknown = Image(id=NOT_HERE, resolved_uri=uri, size_bytes=0, architecture="")
    return ImageCode(uri=uri, image=unknown, pulling=uri, pulling_for=architecture.value)


def here(code: ImageCode) -> ImageCode:
    """With nothing on its way any more."""
    return dataclasses.replace(code, pulling="", pulling_for="")


def reason_code(error: ImageError) -> str:
    """Why a function cannot have its image, among AWS's StateReasonCodes."""
    if any(word in str(error).lower() for word in ("denied", "unauthorized", "authentication")):
        return "ImageAccessDenied"
    return "ImageDeleted" if error.missing else "InvalidImage"


def configured(code: ImageCode, config: Mapping[str, Any]) -> ImageCode:
    """With another ImageConfig; what it leaves out is as the image has it."""
    return dataclasses.replace(
        code,
        entry_point=tuple(config["EntryPoint"]) if config.get("EntryPoint") else None,
        command=tuple(config["Command"]) if config.get("Command") else None,
        directory=config.get("WorkingDirectory") or None,
    )


def check(params: Mapping[str, Any], *, image: bool) -> None:
    """What one of the two kinds of package does not have, or not that much of. Raises InvalidParameterValueException."""
    if image and any(params.get(member) for member in _ZIP_ONLY):
        raise InvalidParameterValueException(
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is IMAGE."
        )
    if not image and params.get("ImageConfig"):
        raise InvalidParameterValueException("Please don't provide ImageConfig when the intended function PackageType is ZIP.")
    if (size_bytes := settings_bytes(params.get("ImageConfig"))) > IMAGE_SETTINGS_MAX_BYTES:
        raise InvalidParameterValueException(
            f"The ImageConfig takes {size_bytes} bytes, and {IMAGE_SETTINGS_MAX_BYTES} are the most."
        )


def fields(code: ImageCode) -> dict[str, Any]:
    """Of the record of a function that runs this."""
    return {
        "image": code,
        "code_sha256": code.image.id.partition(":")[2],  # empty as long as it is on its way
        "code_size_bytes": code.image.size_bytes,
    }


def described(version: FunctionVersion) -> dict[str, Any] | None:
    """ImageConfigResponse; None where the function has no such words of its own."""
    code = version.image
    if code is None:
        return None
    config = {
        "EntryPoint": list(code.entry_point) if code.entry_point is not None else None,
        "Command": list(code.command) if code.command is not None else None,
        "WorkingDirectory": code.directory,
    }
    said = {member: value for member, value in config.items() if value is not None}
    return {"ImageConfig": said} if said else None
