"""Image functions: what their ImageUri means, found out once and kept, and what their ImageConfig changes.

Texts are AWS's as recorded in November 2025, or as its users quote them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from gateway.errors import InvalidParameterValueException, NotImplementedHere, ServiceException
from gateway.records import FunctionVersion, ImageCode
from sandbox.errors import ImageError, SandboxError
from sandbox.spec import Architecture, Image

FindImage = Callable[[str, Architecture], Awaitable[Image]]

#: As the configuration of a function with an image shows it.
URI_NEEDED: Final = "Please provide ImageUri when updating a function with packageType Image."
_ZIP_ONLY: Final = ("Handler", "Runtime", "Layers")


class Images:
    """`find` asks the driver; None where there is none that runs images."""

    def __init__(self, find: FindImage | None) -> None:
        self._find = find

    async def of(self, uri: str, architecture: Architecture, config: Mapping[str, Any]) -> ImageCode:
        """The image as it is now. Raises InvalidParameterValueException, ServiceException."""
        if self._find is None:
            raise NotImplementedHere("There is nothing here that runs container images: use PackageType Zip.")
        try:
            image = await self._find(uri, architecture)
        except ImageError as error:
            raise InvalidParameterValueException(str(error)) from error
        except SandboxError as error:
            raise ServiceException(f"The source image {uri} could not be looked at: {error}") from error
        return configured(ImageCode(uri=uri, image=image), config)


def configured(code: ImageCode, config: Mapping[str, Any]) -> ImageCode:
    """With another ImageConfig; what it leaves out is as the image has it."""
    return dataclasses.replace(
        code,
        entry_point=tuple(config["EntryPoint"]) if config.get("EntryPoint") else None,
        command=tuple(config["Command"]) if config.get("Command") else None,
        directory=config.get("WorkingDirectory") or None,
    )


def check(params: Mapping[str, Any], *, image: bool) -> None:
    """What one of the two kinds of package does not have. Raises InvalidParameterValueException."""
    if image and any(params.get(member) for member in _ZIP_ONLY):
        raise InvalidParameterValueException(
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is IMAGE."
        )
    if not image and params.get("ImageConfig"):
        raise InvalidParameterValueException("Please don't provide ImageConfig when the intended function PackageType is ZIP.")


def fields(code: ImageCode) -> dict[str, Any]:
    """Of the record of a function that runs this."""
    return {
        "image": code,
        "code_sha256": code.image.id.partition(":")[2],
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
