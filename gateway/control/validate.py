"""Rules of AWS Lambda that its service model does not say, with AWS's words. [P]

Texts marked "recorded" were recorded from AWS between November 2025 and January 2026; the others are as users have quoted them.
Limits are those of functions on Lambda's own capacity: the model also allows what managed instances may have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.errors import InvalidParameterValueException, NotImplementedHere
from gateway.scheduler.keepalive.overrides import keep_of

TIMEOUT_MAX_S: Final = 900
MEMORY_MAX_MB: Final = 10_240
TMP_MAX_MB: Final = 10_240
ENVIRONMENT_MAX_BYTES: Final = 4096
TAGS_MAX: Final = 50
NAME_MAX: Final = 64
POLICY_MAX_BYTES: Final = 20_480

#: In the order in which AWS names them when it is asked for another one.
RUNTIMES: Final = (
    "nodejs20.x", "python3.14", "provided.al2023", "python3.12", "python3.13", "nodejs24.x", "nodejs22.x", "java25",
    "python3.10", "python3.11", "java21", "ruby3.3", "ruby3.4", "ruby3.2", "python3.8", "python3.9", "java17", "nodejs16.x",
    "dotnet10", "dotnet8", "java11", "dotnet6", "nodejs18.x", "provided.al2", "java8.al2",
    # newer than the recording
    "nodejs26.x", "python3.15", "ruby4.0", "java8.al2023", "java11.al2023", "java17.al2023",
)  # fmt: skip

#: Runtimes that AWS once had.
DEPRECATED: Final = frozenset(
    {
        "nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x", "java8",
        "python2.7", "python3.6", "python3.7", "dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1", "go1.x",
        "ruby2.5", "ruby2.7", "provided",
    }
)  # fmt: skip

_SNAP_START: Final = frozenset(
    {"java11", "java17", "java21", "java25", "java11.al2023", "java17.al2023", "python3.12", "python3.13", "python3.14",
     "python3.15", "dotnet8", "dotnet10"}
)  # fmt: skip

RESERVED_VARIABLES: Final = frozenset(
    {
        "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
    }
)  # fmt: skip

_UNABLE: Final = "Lambda was unable to configure your environment variables because the environment variables you have provided "

#: Members of CreateFunction and UpdateFunctionConfiguration that ask for what is not built yet, and what it is called.
_NOT_YET: Final = {
    "FileSystemConfigs": "File systems",
    "TenancyConfig": "Tenant isolation",
    "CapacityProviderConfig": "Managed instances",
    "DurableConfig": "Durable functions",
    "RuntimeConfig": "Runtime configuration",
    "AcceleratorConfig": "Accelerators",
    "PublishTo": "Publishing to $LATEST.PUBLISHED",
}


def configuration(params: Mapping[str, Any], *, runtime: str | None, snap_start: str = "None") -> None:
    """Checks what CreateFunction and UpdateFunctionConfiguration have in common; `runtime` is what the function will have.

    Raises InvalidParameterValueException, and NotImplementedHere for what this gateway does not have yet.
    """
    for member, feature in _NOT_YET.items():
        if params.get(member):
            raise NotImplementedHere(f"{feature} are not implemented yet: leave {member} out.")
    if "Runtime" in params:
        known_runtime(params["Runtime"])
    _at_most("Timeout", params.get("Timeout"), TIMEOUT_MAX_S)
    _at_most("MemorySize", params.get("MemorySize"), MEMORY_MAX_MB)
    _at_most("EphemeralStorage.Size", params.get("EphemeralStorage", {}).get("Size"), TMP_MAX_MB)
    environment(params.get("Environment", {}).get("Variables", {}))
    network(params.get("VpcConfig", {}))
    wanted = params.get("SnapStart", {}).get("ApplyOn", snap_start)
    if wanted == "PublishedVersions" and runtime is not None and runtime not in _SNAP_START:
        raise InvalidParameterValueException(f"{runtime} is not supported for SnapStart enabled functions.")


def known_runtime(runtime: str) -> None:
    """Checks that AWS would take this runtime for a new function. Recorded."""
    if runtime in RUNTIMES:
        return
    if runtime in DEPRECATED:
        raise InvalidParameterValueException(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions."
        )
    raise InvalidParameterValueException(
        f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
        f"[{', '.join(RUNTIMES)}] or be a valid ARN"
    )


def environment(variables: Mapping[str, str]) -> None:
    """Checks a function's own environment variables: 4 KB as JSON (recorded), none of AWS's own."""
    measured = orjson.dumps(variables)
    if len(measured) > ENVIRONMENT_MAX_BYTES:
        raise InvalidParameterValueException(f"{_UNABLE}exceeded the 4KB limit. String measured: {measured.decode()}")
    reserved = [key for key in variables if key in RESERVED_VARIABLES]
    if reserved:
        raise InvalidParameterValueException(
            f"{_UNABLE}contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )


def network(vpc: Mapping[str, Sequence[str]]) -> None:
    """There is no VPC here, so that no subnet and no security group exists. Recorded."""
    for subnet in vpc.get("SubnetIds", ()):
        raise InvalidParameterValueException(
            "Error occurred while DescribeSubnets. EC2 Error Code: InvalidSubnetID.NotFound. "
            f"EC2 Error Message: The subnet ID '{subnet}' does not exist"
        )
    for group in vpc.get("SecurityGroupIds", ()):
        raise InvalidParameterValueException(
            "Error occurred while DescribeSecurityGroups. EC2 Error Code: InvalidGroup.NotFound. "
            f"EC2 Error Message: The security group '{group}' does not exist"
        )


def tags(found: Mapping[str, str]) -> None:
    """Checks all the tags that a function would have. The limit is recorded."""
    if len(found) > TAGS_MAX:
        raise InvalidParameterValueException("Number of tags exceeds resource tag limit.")
    if any(key.lower().startswith("aws:") for key in found):
        raise InvalidParameterValueException("aws: prefixed tag key names are not allowed for external use.")
    try:
        keep_of(found)
    except ValueError as error:
        raise InvalidParameterValueException(f"{error}.") from error


def name(function_name: str) -> None:
    """Checks the name of a new function. Recorded."""
    if len(function_name) > NAME_MAX:
        raise InvalidParameterValueException(
            f"1 validation error detected: Value '{function_name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {NAME_MAX}"
        )


def _at_most(member: str, value: int | None, limit: int) -> None:
    if value is not None and value > limit:
        raise InvalidParameterValueException(
            f"'{member}' value failed to satisfy constraint: Member must have value less than or equal to {limit}"
        )
