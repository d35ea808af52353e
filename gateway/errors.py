"""Errors that a caller of the Lambda API sees: AWS's code, status and message, and whose fault it is. [P]

A class's docstring is its default message. Codes, statuses and the spelling of the message key are from botocore's
service model (some of AWS's error shapes say ``message``, some ``Message``); the edge renders them from there, so a class here
only says which shape it is.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar


class Fault(enum.Enum):
    """Whose fault an error is; "User" and "Service" in the body's ``Type``."""

    CLIENT = "User"
    FUNCTION = "Function"
    PLATFORM = "Service"


class ApiError(Exception):
    """Something is wrong with this request."""

    code: ClassVar[str] = "ServiceException"
    status: ClassVar[int] = 500
    fault: ClassVar[Fault] = Fault.PLATFORM
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, **members: object) -> None:
        self.message = message if message is not None else (type(self).__doc__ or self.code)
        self.members: Mapping[str, object] = members  #: further members of the error shape, ``Reason`` for one
        super().__init__(self.message)


class ServiceException(ApiError):
    """The service encountered an internal error."""

    retryable = True


class ShuttingDown(ServiceException):
    """The service is being stopped, and the request was cut off. What it began may have been done or not."""

    status = 503


class ResourceNotFoundException(ApiError):
    """The resource that you requested does not exist."""

    code, status, fault = "ResourceNotFoundException", 404, Fault.CLIENT


class ResourceConflictException(ApiError):
    """The resource already exists, or another operation is in progress."""

    code, status, fault = "ResourceConflictException", 409, Fault.CLIENT


class InvalidParameterValueException(ApiError):
    """One of the parameters in the request is not valid."""

    code, status, fault = "InvalidParameterValueException", 400, Fault.CLIENT


class ValidationException(ApiError):
    """The request does not satisfy the constraints of the service model."""

    code, status, fault = "ValidationException", 400, Fault.CLIENT


class SerializationException(ApiError):
    """The request cannot be read as what the operation takes."""

    code, status, fault = "SerializationException", 400, Fault.CLIENT


class UnknownOperationException(ApiError):
    """There is no such operation."""

    code, status, fault = "UnknownOperationException", 404, Fault.CLIENT


class InvalidRequestContentException(ApiError):
    """The request body could not be parsed as JSON."""

    code, status, fault = "InvalidRequestContentException", 400, Fault.CLIENT


class RequestTooLargeException(ApiError):
    """The request payload exceeded the Invoke request body JSON input quota."""

    code, status, fault = "RequestTooLargeException", 413, Fault.CLIENT


class RequestEntityTooLargeException(ApiError):
    """The request is larger than the operation accepts."""

    code, status, fault = "RequestEntityTooLargeException", 413, Fault.CLIENT


class PreconditionFailedException(ApiError):
    """The RevisionId provided does not match the latest RevisionId."""

    code, status, fault = "PreconditionFailedException", 412, Fault.CLIENT


class CodeSigningConfigNotFoundException(ApiError):
    """The specified code signing configuration does not exist."""

    code, status, fault = "CodeSigningConfigNotFoundException", 404, Fault.CLIENT


class ProvisionedConcurrencyConfigNotFoundException(ApiError):
    """No Provisioned Concurrency Config found for this function"""  # AWS's words

    code, status, fault = "ProvisionedConcurrencyConfigNotFoundException", 404, Fault.CLIENT


class CodeStorageExceededException(ApiError):
    """Code storage limit exceeded."""

    code, status, fault = "CodeStorageExceededException", 400, Fault.CLIENT


class PolicyLengthExceededException(ApiError):
    """The permissions policy for the resource is too large."""

    code, status, fault = "PolicyLengthExceededException", 400, Fault.CLIENT


class UnsupportedMediaTypeException(ApiError):
    """The content type of the Invoke request body is not JSON."""

    code, status, fault = "UnsupportedMediaTypeException", 415, Fault.CLIENT


class InvalidRuntimeException(ApiError):
    """The runtime or runtime version specified is not supported on this host."""

    code, status, fault = "InvalidRuntimeException", 502, Fault.CLIENT


class InvalidZipFileException(ApiError):
    """Lambda could not unzip the deployment package."""

    code, status, fault = "InvalidZipFileException", 502, Fault.CLIENT


class RecursiveInvocationException(ApiError):
    """Lambda has detected your function being invoked in a recursive loop with other Amazon Web Services resources and stopped \
your function's invocation."""

    code, status, fault = "RecursiveInvocationException", 400, Fault.CLIENT


class TooManyRequestsException(ApiError):
    """Rate Exceeded."""

    code, status, fault, retryable = "TooManyRequestsException", 429, Fault.CLIENT, True

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(Reason=reason)
        self.retry_after_s = retry_after_s


class AccessDeniedException(ApiError):
    """You are not authorized to perform this action."""

    code, status, fault = "AccessDeniedException", 403, Fault.CLIENT


class NotImplementedHere(ApiError):
    """Lambent does not have this operation yet."""

    code, status, fault = "NotImplementedException", 501, Fault.PLATFORM
