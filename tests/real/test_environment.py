"""What a function finds when it runs: its variables, its context, where it is and who it is."""

from __future__ import annotations

import base64
import json
import re

import pytest
from botocore.exceptions import ClientError

from tests.real.product import PYTHON, Product
from tests.real.test_boto3 import ARN, REGION

pytestmark = [pytest.mark.real, pytest.mark.slow]

INTROSPECTION = """
import os, time
at_init = dict(os.environ)
def handler(event, context):
    fields = ("aws_request_id", "function_name", "function_version", "invoked_function_arn", "log_group_name", "log_stream_name",
              "memory_limit_in_mb", "tenant_id")
    return {
        "environment": dict(os.environ),
        "at_init": at_init,
        "context": {field: getattr(context, field) for field in fields},
        "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
        "client_context": context.client_context and [context.client_context.custom, context.client_context.client.app_title],
        "remaining_ms": context.get_remaining_time_in_millis(),
        "directory": os.getcwd(),
        "user": [os.getuid() > 0, os.getgid() > 0],
        "writable": [path for path in ("/tmp", "/var/task", "/opt", "/") if os.access(path, os.W_OK)],
        "zone": time.tzname[0],
    }
"""


def test_environment_and_context(product: Product) -> None:
    name = product.deploy(INTROSPECTION, Timeout=20, Environment={"Variables": {"MINE": "ä b=c", "PATH": "/var/task/bin"}})
    custom = {"custom": {"a": "b"}, "client": {"app_title": "title"}, "env": {}}
    answer = product.invoke(name, {}, ClientContext=base64.b64encode(json.dumps(custom).encode()).decode())
    told = answer.value
    environment = told["environment"]
    stream = environment["AWS_LAMBDA_LOG_STREAM_NAME"]
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)
    assert re.fullmatch(
        r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01](;Lineage=\S+)?", environment.pop("_X_AMZN_TRACE_ID")
    )
    assert re.fullmatch("ASIA[A-Z2-7]{16}", environment.pop("AWS_ACCESS_KEY_ID"))
    assert all(environment.pop(secret) for secret in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
    xray = environment.pop("_AWS_XRAY_DAEMON_ADDRESS")
    assert environment.pop("AWS_ENDPOINT_URL_LAMBDA", None) in (None, "http://127.0.0.1:9002")  # without, or with a network
    assert environment == {
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{PYTHON}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
        "AWS_REGION": REGION,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": f"{xray}:2000",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        "MINE": "ä b=c",
        "PATH": "/var/task/bin",
        "PWD": "/var/task",
        "PYTHONPATH": "/var/runtime",
        "SHLVL": "0",
        "TZ": ":UTC",
        "_AWS_XRAY_DAEMON_PORT": "2000",
        "_HANDLER": "app.handler",
    }
    assert told["at_init"]["AWS_LAMBDA_LOG_STREAM_NAME"] == stream
    assert told["context"] == {
        "aws_request_id": answer.request_id,
        "function_name": name,
        "function_version": "$LATEST",
        "invoked_function_arn": ARN + name,
        "log_group_name": f"/aws/lambda/{name}",
        "log_stream_name": stream,
        "memory_limit_in_mb": "128",
        "tenant_id": None,
    }
    assert (told["identity"], told["client_context"]) == ([None, None], [{"a": "b"}, "title"])
    identity = json.dumps({"cognitoIdentityId": "us-east-1:me", "cognitoIdentityPoolId": "us-east-1:pool"})
    path = f"/2015-03-31/functions/{name}/invocations"
    body = product.fetch(path, method="POST", body=b"{}", headers={"X-Amz-Cognito-Identity": identity})[2]
    assert json.loads(body)["identity"] == ["us-east-1:me", "us-east-1:pool"]
    assert 15_000 < told["remaining_ms"] <= 20_000
    assert (told["directory"], told["user"], told["writable"], told["zone"]) == ("/var/task", [True, True], ["/tmp"], "UTC")


def test_variables_of_the_functions_own(product: Product) -> None:
    """4,096 bytes of them as JSON are there, one more is refused, and so is who takes AWS's names."""
    code = "import os\ndef handler(event, context):\n    return len(os.environ['LARGE_VAR'])\n"
    name = product.deploy(code, Environment={"Variables": {"LARGE_VAR": "x" * 4080}})
    assert product.invoke(name).value == 4080
    for variables, why in (
        ({"LARGE_VAR": "x" * 4081}, "exceeded the 4KB limit. String measured: "),
        (
            {"AWS_REGION": "here", "OK": "1", "LAMBDA_TASK_ROOT": "x"},
            "Reserved keys used in this request: AWS_REGION, LAMBDA_TASK_ROOT",
        ),
        ({"1": "a"}, "Map keys must satisfy constraint"),
    ):
        with pytest.raises(ClientError, match=re.escape(why)):
            product.client.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
    assert product.invoke(name).value == 4080, "a refusal changes nothing"
