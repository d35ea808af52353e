"""A function finds the Lambda API of its own gateway, with a network and without one, and nothing of the gateway's besides."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli.bench.instance import Instance, NotReady
from tests.conftest import client_for
from tests.real.product import Product

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]

OTHER = "def handler(event, context):\n    return {'hello': event['name'], 'from': context.function_name}\n"
CALLER = """
import os, sys
import boto3

client = boto3.client("lambda")

def handler(event, context):
    answer = client.invoke(FunctionName=event["function"], Payload=b'{"name": "Ada"}')
    return {"status": answer["StatusCode"], "payload": answer["Payload"].read().decode(), "at": client.meta.endpoint_url}
"""
RAW = """
import http.client, os, urllib.parse

def handler(requests, context):
    at = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL_LAMBDA"]).netloc
    answers = []
    for method, target, host in requests:
        connection = http.client.HTTPConnection(at, timeout=10)
        connection.putrequest(method, target, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        answers.append([answer.status, answer.read().decode()])
        connection.close()
    return answers
"""
LOOP = """
import json
import boto3

client = boto3.client("lambda")

def handler(event, context):
    try:
        answer = client.invoke(FunctionName=context.function_name, Payload=json.dumps(event + 1))
    except client.exceptions.RecursiveInvocationException as error:
        return [event, error.response["Error"]["Message"]]
    return json.loads(answer["Payload"].read())
"""
PACKAGES = ("boto3", "botocore", "jmespath", "s3transfer", "dateutil", "urllib3")
DATA = ("lambda", "endpoints.json", "partitions.json", "sdk-default-configuration.json", "_retry.json")


def boto3() -> dict[str, bytes]:
    """boto3 as `pip install -t` brings it, with the data of one service of botocore's four hundred."""
    files: dict[str, bytes] = {}
    for name in (*PACKAGES, "six"):
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        if name not in PACKAGES:
            files[f"{name}.py"] = Path(spec.origin).read_bytes()
            continue
        top = Path(spec.origin).parent
        for path in top.rglob("*"):
            inside = path.relative_to(top)
            unwanted = name == "botocore" and inside.parts[0] == "data" and inside.parts[1:2] and inside.parts[1] not in DATA
            if path.is_file() and "__pycache__" not in inside.parts and not unwanted:
                files[f"{name}/{inside}"] = path.read_bytes()
    return files


@pytest.fixture(params=["nat", "none"])
def product(request: pytest.FixtureRequest, up: Callable[..., Instance]) -> Iterator[Product]:
    with up(network=request.param) as instance:
        assert f"network: {request.param}" in instance.status()["isolation"]
        client = client_for(instance.endpoint)
        yield Product(instance, client)
        client.close()


def test_a_function_invokes_another_with_plain_boto3(product: Product) -> None:
    other = product.deploy(OTHER)
    caller = product.deploy({"app.py": CALLER, **boto3()}, Timeout=60, MemorySize=512)
    answer = product.invoke(caller, {"function": other})
    assert answer.function_error is None, answer.payload
    assert answer.value["status"] == 200
    assert json.loads(answer.value["payload"]) == {"hello": "Ada", "from": other}
    assert answer.value["at"] == "http://127.0.0.1:9002"


def test_a_function_that_calls_itself_is_stopped(product: Product) -> None:
    """As on AWS after about sixteen times; the SDK passes on the trace header, in which they are counted."""
    name = product.deploy({"app.py": LOOP, **boto3()}, Timeout=60, MemorySize=512)
    times, told = product.invoke(name, 1).value
    assert times == 17
    assert told.startswith("Lambda has detected your function being invoked in a recursive loop")


def test_what_is_the_operators_is_not_served_inside(product: Product) -> None:
    name = product.deploy(RAW)
    requests = [
        ["GET", "/2015-03-31/functions/", "127.0.0.1"],
        ["GET", f"/_lambent/logs/{name}", "127.0.0.1"],
        ["GET", "/_lambent/status", "127.0.0.1"],
        ["GET", "/metrics", "127.0.0.1"],
        ["GET", f"http://127.0.0.1/_lambent/logs/{name}", "127.0.0.1"],
        ["GET", "/", "abc.lambda-url.us-east-1.localhost"],
        ["GET", "/_urls/abc/", "127.0.0.1"],
    ]
    functions, *refused = product.invoke(name, requests).value
    assert functions[0] == 200
    assert name in functions[1]
    assert {status for status, _ in refused} == {404}
    assert {json.loads(body)["Message"] for _, body in refused} == {"Functions are served the Lambda API here, and nothing else."}
    again = product.invoke(name, requests[:1]).value
    assert again[0][0] == 200


WITHOUT_NFT = ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$(command -v nft)"; exec "$@"', "sh")
FROZEN = ("unshare", "--mount", "sh", "-c", 'mount --bind -o ro /proc/sys/net /proc/sys/net; exec "$@"', "sh")


@pytest.mark.parametrize(
    ("wrapper", "reason"), [(WITHOUT_NFT, "nft is not installed"), (FROZEN, "cannot be turned on: Read-only file system")]
)
def test_where_nat_cannot_be_had(wrapper: tuple[str, ...], reason: str, up: Callable[..., Instance]) -> None:
    """By itself there is no network then, said with the reason; who asks for nat gets no Lambent that lacks it."""
    with up(*wrapper) as instance:
        assert f"network: none (no nat: {reason}" in instance.status()["isolation"].replace("/proc/sys/net/ipv4/ip_forward ", "")
        said = instance.log.read_text()
        assert "functions have no network" in said
        assert "network: none" in said
        client = client_for(instance.endpoint)
        product = Product(instance, client)
        assert product.invoke(product.deploy(OTHER), {"name": "Bob"}).value["hello"] == "Bob"
        client.close()
    with pytest.raises(NotReady, match="nat cannot be had") as told:
        up(*wrapper, network="nat")
    assert "Traceback" not in str(told.value)
