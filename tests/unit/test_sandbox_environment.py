"""What a runtime finds in its environment. Oracle: recorded on AWS from python3.14, 2026-02-18 (test_lambda_init_environment)."""

from __future__ import annotations

import dataclasses

from sandbox.environment import Credentials, compose
from sandbox.spec import Architecture, Program
from tests.sandboxes import SPEC

RECORDED = {
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "LANG",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "PATH",
    "PWD",
    "PYTHONPATH",
    "SHLVL",
    "TZ",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT",
    "_HANDLER",
}  # and _X_AMZN_TRACE_ID, which the runtime sets itself


def test_names_are_those_recorded_on_aws() -> None:
    assert set(compose(SPEC, "127.0.0.1:9001", Credentials("id", "key", "token"))) == RECORDED


def test_values_recorded_on_aws() -> None:
    made = compose(SPEC, "127.0.0.1:9001", Credentials("id", "key", "token"))
    assert made["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.11"
    assert made["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert made["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128"
    assert made["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert made["AWS_LAMBDA_LOG_STREAM_NAME"].startswith("2026/11/21/[$LATEST]")
    assert made["TZ"] == ":UTC"
    assert made["LANG"] == "en_US.UTF-8"
    assert made["LC_CTYPE"] == "C.UTF-8"
    assert made["PATH"] == "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
    assert made["LD_LIBRARY_PATH"].startswith("/var/lang/lib:/lib64:/usr/lib64:/var/runtime:")
    assert (made["PWD"], made["SHLVL"], made["PYTHONPATH"]) == ("/var/task", "0", "/var/runtime")
    assert (made["_HANDLER"], made["LAMBDA_TASK_ROOT"]) == ("app.handler", "/var/task")
    assert (made["AWS_SECRET_ACCESS_KEY"], made["AWS_SESSION_TOKEN"]) == ("key", "token")


def test_custom_runtimes_have_no_execution_env_and_nothing_of_pythons() -> None:
    made = compose(dataclasses.replace(SPEC, runtime="provided.al2023"), "127.0.0.1:9001")
    assert not {"AWS_EXECUTION_ENV", "PYTHONPATH", "LC_CTYPE"} & set(made)


def test_image_functions_have_what_was_seen_on_aws() -> None:
    """github.com/aws/aws-lambda-base-images, issue 15: AWS_Lambda_Image, until an image's own bootstrap says it better."""
    program = Program("sha256:0", ("/entry",), "/function", {"PATH": "/mine", "AWS_EXECUTION_ENV": "mine"}, "arm64")
    made = compose(dataclasses.replace(SPEC, runtime="", program=program, architecture=Architecture.ARM64), "127.0.0.1:9001")
    assert (made["AWS_EXECUTION_ENV"], made["PATH"], made["PWD"]) == ("AWS_Lambda_Image", "/mine", "/function")


def test_the_architecture_changes_nothing() -> None:
    made = compose(dataclasses.replace(SPEC, architecture=Architecture.ARM64), "127.0.0.1:9001")
    assert made == compose(SPEC, "127.0.0.1:9001")


def test_without_credentials_their_variables_are_absent() -> None:
    assert not [name for name in compose(SPEC, "127.0.0.1:9001") if "KEY" in name or "TOKEN" in name]


def test_a_function_overrides_what_is_unreserved_and_nothing_else() -> None:
    own = {"TZ": "Asia/Tokyo", "PATH": "/opt/mine", "AWS_REGION": "mars-1", "_HANDLER": "evil.handler", "MINE": "1"}
    made = compose(dataclasses.replace(SPEC, environment=own), "127.0.0.1:9001")
    assert (made["TZ"], made["PATH"], made["MINE"]) == ("Asia/Tokyo", "/opt/mine", "1")
    assert (made["AWS_REGION"], made["_HANDLER"]) == ("us-east-1", "app.handler")


def test_log_format_is_said_only_where_it_is_json() -> None:
    assert "AWS_LAMBDA_LOG_FORMAT" not in compose(SPEC, "127.0.0.1:9001")
    assert "AWS_LAMBDA_LOG_LEVEL" not in compose(SPEC, "127.0.0.1:9001")
    made = compose(dataclasses.replace(SPEC, log_format="JSON", log_level="WARN"), "x:1")
    assert (made["AWS_LAMBDA_LOG_FORMAT"], made["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "WARN")


def test_sdks_find_the_lambda_api_unless_the_function_says_where_it_is() -> None:
    there = "http://127.0.0.1:9002"
    assert compose(SPEC, "127.0.0.1:9001", lambda_endpoint=there)["AWS_ENDPOINT_URL_LAMBDA"] == there
    own = dataclasses.replace(SPEC, environment={"AWS_ENDPOINT_URL_LAMBDA": "https://lambda.example"})
    assert compose(own, "127.0.0.1:9001", lambda_endpoint=there)["AWS_ENDPOINT_URL_LAMBDA"] == "https://lambda.example"
    assert "AWS_ENDPOINT_URL_LAMBDA" not in compose(SPEC, "127.0.0.1:9001")
