"""The environment variables that a function's runtime gets: what AWS sets, and the function's own. [P]

Names and values are those that were recorded on AWS (python3.14, 2026-02). Precedence is that of AWS's runtime interface
emulator: a function may override what AWS documents as unreserved (PATH, LANG, TZ and the like), and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from sandbox.spec import FunctionSpec, Program

_XRAY_HOST = "169.254.79.129"
_XRAY_PORT = "2000"


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What the SDKs inside find; without any, their variables are absent."""

    access_key_id: str
    secret_access_key: str
    session_token: str


def ambient(runtime: str) -> dict[str, str]:
    """What a runtime's processes have that is the same for every function, and that a function may override."""
    variables = {
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": ("/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"),
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "PWD": "/var/task",
        "SHLVL": "0",
        "TZ": ":UTC",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": f"{_XRAY_HOST}:{_XRAY_PORT}",
    }
    if runtime.startswith("python"):
        variables |= {"PYTHONPATH": "/var/runtime", "LC_CTYPE": "C.UTF-8"}
    if runtime.startswith("nodejs"):
        own = f"/opt/nodejs/node{runtime.removeprefix('nodejs').removesuffix('.x')}/node_modules"
        variables["NODE_PATH"] = f"{own}:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
    return variables


def _of_image(program: Program) -> dict[str, str]:
    """An image says itself where its libraries and programs are; without a word of its own it has Docker's PATH."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD": program.directory,
        "TZ": ":UTC",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": f"{_XRAY_HOST}:{_XRAY_PORT}",
        **program.environment,
    }


def compose(
    spec: FunctionSpec, runtime_api: str, credentials: Credentials | None = None, lambda_endpoint: str = ""
) -> dict[str, str]:
    """All variables of a runtime process; `runtime_api` is ``host:port`` as the process reaches it.

    `lambda_endpoint`, if any, is the URL of the Lambda API, where SDKs then look for it, unless the function says otherwise.
    """
    reserved = {
        "AWS_DEFAULT_REGION": spec.region,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_VERSION": spec.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": spec.initialization_type,
        "AWS_LAMBDA_LOG_GROUP_NAME": spec.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": spec.log_stream,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_REGION": spec.region,
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": "/var/task",
        "_AWS_XRAY_DAEMON_ADDRESS": _XRAY_HOST,
        "_AWS_XRAY_DAEMON_PORT": _XRAY_PORT,
        "_HANDLER": spec.handler,
    }
    unreserved = ambient(spec.runtime) if spec.program is None else _of_image(spec.program)
    if lambda_endpoint:
        unreserved["AWS_ENDPOINT_URL_LAMBDA"] = lambda_endpoint
    if spec.program is not None:
        reserved["AWS_EXECUTION_ENV"] = "AWS_Lambda_Image"  # AWS's own images say it better by themselves
    elif not spec.runtime.startswith("provided"):
        reserved["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{spec.runtime}"
    if spec.log_format != "Text":
        reserved["AWS_LAMBDA_LOG_FORMAT"] = spec.log_format
    if spec.log_level is not None:
        reserved["AWS_LAMBDA_LOG_LEVEL"] = spec.log_level
    if credentials is not None:
        reserved["AWS_ACCESS_KEY_ID"] = credentials.access_key_id
        reserved["AWS_SECRET_ACCESS_KEY"] = credentials.secret_access_key
        reserved["AWS_SESSION_TOKEN"] = credentials.session_token
    return {**unreserved, **spec.environment, **reserved}


#: What AWS does not tell external extensions (its developer guide, "Lambda extensions API").
_NOT_FOR_EXTENSIONS: Final = frozenset(
    {
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "_AWS_XRAY_DAEMON_ADDRESS",
        "_AWS_XRAY_DAEMON_PORT",
        "_HANDLER",
    }
)


def for_extensions(environment: Mapping[str, str]) -> dict[str, str]:
    """What external extensions get of a runtime's variables."""
    return {name: value for name, value in environment.items() if name not in _NOT_FOR_EXTENSIONS}
