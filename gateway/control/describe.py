"""Records as the structures of AWS's API. [P]

Which members are there, and when, is as recorded from AWS in November 2025; None means that a member is left out.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from gateway.control import images
from gateway.records import Alias, Cors, FunctionVersion, LayerVersion, LoggingConfig, Policy, Statement, UrlConfig
from sandbox.platform_lines import runtime_version


def configuration(version: FunctionVersion, qualifier: str | None = None) -> dict[str, Any]:
    """FunctionConfiguration, with the ARN as the caller qualified it."""
    return {
        **listed(version, qualifier),
        "State": version.state,
        "StateReason": version.state_reason,
        "StateReasonCode": version.state_reason_code,
        # AWS has no word for the update that creating is
        "LastUpdateStatus": None if version.state == "Pending" else version.last_update_status,
        "LastUpdateStatusReason": version.last_update_reason,
        "LastUpdateStatusReasonCode": version.last_update_reason_code,
        "RuntimeVersionConfig": None
        if version.image is not None
        else {"RuntimeVersionArn": runtime_version(version.runtime, version.region)[1]},
    }


def listed(version: FunctionVersion, qualifier: str | None = None) -> dict[str, Any]:
    """FunctionConfiguration as lists have it: without the states and the runtime's version."""
    return {
        "FunctionName": version.name,
        "FunctionArn": version.unqualified_arn if qualifier is None else f"{version.unqualified_arn}:{qualifier}",
        "Runtime": version.runtime or None,
        "Role": version.role,
        "Handler": version.handler or None,
        "CodeSize": version.code_size_bytes,
        "Description": version.description,
        "Timeout": version.timeout_s,
        "MemorySize": version.memory_mb,
        "LastModified": version.last_modified,
        "CodeSha256": version.code_sha256,
        "Version": version.version,
        "DeadLetterConfig": {"TargetArn": version.dead_letter_arn} if version.dead_letter_arn else None,
        "Environment": None if version.environment is None else {"Variables": version.environment},
        "KMSKeyArn": version.kms_key_arn,
        "TracingConfig": {"Mode": version.tracing_mode},
        "RevisionId": version.revision_id,
        "Layers": [{"Arn": layer.arn, "CodeSize": layer.code_size_bytes} for layer in version.layers] or None,
        "PackageType": "Zip" if version.image is None else "Image",
        "ImageConfigResponse": images.described(version),
        "Architectures": [version.architecture.value],
        "EphemeralStorage": {"Size": version.tmp_mb},
        "SnapStart": {"ApplyOn": version.snap_start, "OptimizationStatus": "Off"},
        "LoggingConfig": logging(version.logging),
    }


def code(version: FunctionVersion, location: str) -> dict[str, Any]:
    """FunctionCodeLocation; `location` is where a package can be had."""
    if version.image is None:
        return {"RepositoryType": "S3", "Location": location}
    return {"RepositoryType": "ECR", "ImageUri": version.image.uri, "ResolvedImageUri": version.image.image.resolved_uri}


def layer_version(version: LayerVersion, layer_arn: str) -> dict[str, Any]:
    """LayerVersionsListItem."""
    return {
        "LayerVersionArn": f"{layer_arn}:{version.version}",
        "Version": version.version,
        "Description": version.description,
        "CreatedDate": version.created,
        "CompatibleArchitectures": version.architectures,
        "CompatibleRuntimes": version.runtimes,
        "LicenseInfo": version.license_info,
    }


def logging(config: LoggingConfig) -> dict[str, Any]:
    return {
        "LogFormat": config.log_format,
        "ApplicationLogLevel": config.application_level,
        "SystemLogLevel": config.system_level,
        "LogGroup": config.log_group,
    }


def alias(found: Alias, arn: str) -> dict[str, Any]:
    """AliasConfiguration."""
    return {
        "AliasArn": arn,
        "Name": found.name,
        "FunctionVersion": found.version,
        "Description": found.description,
        "RoutingConfig": {"AdditionalVersionWeights": found.weights} if found.weights else None,
        "RevisionId": found.revision_id,
    }


def url(config: UrlConfig, arn: str, address: str) -> dict[str, Any]:
    """FunctionUrlConfig, all of it; what some operations leave out they take away."""
    return {
        "FunctionUrl": address,
        "FunctionArn": arn,
        "AuthType": config.auth_type,
        "Cors": _cors(config.cors) if config.cors else None,
        "CreationTime": config.creation_time,
        "LastModifiedTime": config.last_modified_time,
        "InvokeMode": config.invoke_mode,
    }


def _cors(found: Cors) -> dict[str, Any]:
    return {
        "AllowCredentials": found.allow_credentials or None,
        "AllowHeaders": found.allow_headers or None,
        "AllowMethods": found.allow_methods or None,
        "AllowOrigins": found.allow_origins or None,
        "ExposeHeaders": found.expose_headers or None,
        "MaxAge": found.max_age_s,
    }


def statement(found: Statement) -> dict[str, Any]:
    """A statement of a resource policy, in the order in which AWS writes it."""
    written: dict[str, Any] = {
        "Sid": found.sid,
        "Effect": found.effect,
        "Principal": found.principal,
        "Action": found.action,
        "Resource": found.resource,
    }
    if found.condition:
        written["Condition"] = found.condition
    return written


def policy(found: Policy) -> Mapping[str, Any]:
    return {"Version": "2012-10-17", "Id": "default", "Statement": [statement(one) for one in found.statements]}


def modified(wall_s: float) -> str:
    """A time as LastModified has it: ``2019-11-14T18:16:05.568+0000``."""
    return _utc(wall_s).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(wall_s * 1000) % 1000:03}+0000"


def created(wall_s: float) -> str:
    """A time as function URLs have it: ``2022-04-12T18:16:05.568214Z``."""
    return _utc(wall_s).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _utc(wall_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(wall_s, datetime.UTC)
