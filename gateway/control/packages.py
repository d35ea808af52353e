"""Where the code of a function or a layer comes from. [P]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import InvalidParameterValueException


def archive_of(code: Mapping[str, Any]) -> bytes:
    """The zip file of CreateFunction's Code, of UpdateFunctionCode or of PublishLayerVersion's Content.

    Raises InvalidParameterValueException without one.
    """
    archive: bytes | None = code.get("ZipFile")
    if archive is not None:
        if any(code.get(other) for other in ("S3Bucket", "S3Key", "S3ObjectVersion", "ImageUri")):
            raise InvalidParameterValueException("Please do not provide other FunctionCode parameters when providing a ZipFile.")
        return archive
    if code.get("S3Bucket") or code.get("S3Key"):
        raise InvalidParameterValueException(
            "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does not exist. "
            "There is no S3 here yet: send the package itself, as ZipFile."
        )
    raise InvalidParameterValueException("Please provide a source for function code.")
