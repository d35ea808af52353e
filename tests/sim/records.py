"""Functions for tests that do not care how they were deployed."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.records import Alias, Function, FunctionVersion, ImageCode, LoggingConfig
from sandbox.spec import Architecture, Image


def version(
    name: str = "echo",
    version: str = "$LATEST",
    *,
    generation: int = 1,
    memory_mb: int = 128,
    timeout_s: int = 3,
    runtime: str = "python3.11",
    state: str = "Active",
    log_format: str = "Text",
    system_level: str | None = None,
    tracing_mode: str = "PassThrough",
) -> FunctionVersion:
    return FunctionVersion(
        account_id="123456789012",
        region="eu-west-1",
        name=name,
        version=version,
        generation=generation,
        runtime=runtime,
        handler="app.handler",
        role="arn:aws:iam::123456789012:role/lambda",
        architecture=Architecture.X86_64,
        code_sha256="",
        code_size_bytes=1,
        code_key=f"{name}-{generation}",
        memory_mb=memory_mb,
        timeout_s=timeout_s,
        logging=LoggingConfig(log_group=f"/aws/lambda/{name}", log_format=log_format, system_level=system_level),
        tracing_mode=tracing_mode,
        last_modified="2026-01-01T00:00:00.000+0000",
        revision_id="1",
        state=state,
    )


def of_image(image_id: str) -> ImageCode:
    return ImageCode(
        uri="registry.test/one:latest", image=Image(id=image_id, resolved_uri="", size_bytes=1, architecture="amd64")
    )


def function(
    *versions: FunctionVersion, aliases: Mapping[str, Alias] | None = None, reserved_concurrency: int | None = None
) -> Function:
    return Function(
        name=versions[0].name,
        versions={one.version: one for one in versions},
        aliases=aliases or {},
        reserved_concurrency=reserved_concurrency,
    )
