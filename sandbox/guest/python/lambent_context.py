"""The second argument of every handler, with the members and the text that AWS's Python runtime gives it."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time


def _described(value: object, names: tuple[str, ...]) -> str:
    return "{}([{}])".format(type(value).__name__, ",".join(f"{name}={getattr(value, name)}" for name in names))


class CognitoIdentity:
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, fields: dict[str, object]) -> None:
        self.cognito_identity_id = fields.get("cognitoIdentityId")
        self.cognito_identity_pool_id = fields.get("cognitoIdentityPoolId")

    def __repr__(self) -> str:
        return _described(self, self.__slots__)


class Client:
    __slots__ = ("app_package_name", "app_title", "app_version_code", "app_version_name", "installation_id")

    def __init__(self, fields: dict[str, object]) -> None:
        for name in self.__slots__:
            setattr(self, name, fields.get(name))

    def __repr__(self) -> str:
        return _described(self, ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"))


class ClientContext:
    __slots__ = ("client", "custom", "env")

    def __init__(self, fields: dict[str, object]) -> None:
        self.custom = fields.get("custom")
        self.env = fields.get("env")
        client = fields.get("client")
        self.client = Client(client) if isinstance(client, dict) else None

    def __repr__(self) -> str:
        return _described(self, ("custom", "env", "client"))


@functools.lru_cache(maxsize=None)
def function_facts() -> tuple[str | None, ...]:
    """What is the same for every invocation; reading the environment costs more than the rest of the context."""
    names = ("LOG_GROUP_NAME", "LOG_STREAM_NAME", "FUNCTION_NAME", "FUNCTION_MEMORY_SIZE", "FUNCTION_VERSION")
    return tuple(os.environ.get("AWS_LAMBDA_" + name) for name in names)


class LambdaContext:
    """A plain object, as on AWS: functions and their libraries hang attributes of their own on it."""

    def __init__(
        self,
        request_id: str,
        client_context: object,
        cognito_identity: object,
        deadline_ms: int,
        invoked_function_arn: str | None = None,
        tenant_id: str | None = None,
    ) -> None:
        self.aws_request_id = request_id
        (
            self.log_group_name,
            self.log_stream_name,
            self.function_name,
            self.memory_limit_in_mb,  # text on AWS too
            self.function_version,
        ) = function_facts()
        self.invoked_function_arn = invoked_function_arn
        self.tenant_id = tenant_id
        self.client_context = None  # type: ClientContext | None
        self._w3c_fields = {}  # type: dict[str, str]
        if isinstance(client_context, dict):
            self._w3c_fields = _w3c(client_context)
            self.client_context = ClientContext(client_context)
        self.identity = CognitoIdentity(cognito_identity if isinstance(cognito_identity, dict) else {})
        self._epoch_deadline_time_in_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function's time-out, never below 0."""
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def w3c(self) -> dict[str, str]:
        """The W3C trace context that came with the invocation."""
        return dict(self._w3c_fields)

    def log(self, message: object) -> None:
        """Write `message` to the function's log as it is, without a newline after it."""
        for handler in logging.getLogger().handlers:
            sink = getattr(handler, "log_sink", None)
            if sink is not None:
                sink.log(str(message))
                return
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        return _described(self, _REPR)


def _w3c(client_context: dict[str, object]) -> dict[str, str]:
    """Take the trace context out of the client context: functions read it by `LambdaContext.w3c` only."""
    fields = client_context.pop("w3c", None)
    if not isinstance(fields, dict):
        return {}
    return {name: fields[name] for name in ("traceparent", "tracestate", "baggage") if isinstance(fields.get(name), str)}


_REPR = (
    "aws_request_id",
    "log_group_name",
    "log_stream_name",
    "function_name",
    "memory_limit_in_mb",
    "function_version",
    "invoked_function_arn",
    "client_context",
    "identity",
    "tenant_id",
)
