"""AWS Lambda's API as botocore describes it: operations, shapes, constraints, errors. Loaded once and indexed.

What is here is shape only. botocore's classes are convenient but compute much on each access, so that what a request needs is
taken out of them once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import botocore.loaders
import botocore.model


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorShape:
    """How one of AWS's errors looks on the wire: some shapes say ``message``, some ``Message``."""

    code: str
    status: int
    message_key: str


@functools.cache
def service() -> botocore.model.ServiceModel:
    """botocore's model of Lambda. Takes 0.1 s the first time; it is a constant of the installed botocore, hence the cache."""
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("lambda", "service-2"), "lambda")


@functools.cache
def errors() -> Mapping[str, ErrorShape]:
    """The error shapes of the model, by code."""
    return {
        shape.name: ErrorShape(
            code=shape.name,
            status=shape.metadata["error"]["httpStatusCode"],
            message_key=next(name for name in shape.members if name.lower() == "message"),
        )
        for shape in service().error_shapes
        if isinstance(shape, botocore.model.StructureShape)
    }
