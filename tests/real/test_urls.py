"""Function URLs by plain HTTP, by path and by host, on real sandboxes. Answers as recorded from AWS in November 2025."""

from __future__ import annotations

import json
import re

import pytest

from tests.real.product import Product, package

pytestmark = [pytest.mark.real, pytest.mark.slow]

REGION = "us-east-1"


def says(what: object) -> str:
    return f"def handler(event, context):\n    return {what!r}\n"


FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, "
    "see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)


def test_life_of_a_function_url(product: Product) -> None:
    aws = product.client
    name = product.deploy("def handler(e, c): return e")
    created = aws.create_function_url_config(FunctionName=name, AuthType="NONE")
    assert created["FunctionUrl"] == aws.get_function_url_config(FunctionName=name)["FunctionUrl"]
    path = product.url_path(name)
    status, headers, body = product.fetch(path)
    assert (status, headers["x-amzn-errortype"], json.loads(body)) == (403, "AccessDeniedException", {"Message": FORBIDDEN})
    product.allow_everybody(name)
    assert product.fetch(path)[0] == 200
    aws.update_function_url_config(FunctionName=name, AuthType="AWS_IAM")
    assert product.fetch(path)[0] == 403
    aws.delete_function_url_config(FunctionName=name)
    status, headers, body = product.fetch(path)
    assert (status, headers["x-amzn-errortype"], body) == (403, "AccessDeniedException", b'{"Message":null}')


@pytest.mark.parametrize("by_host", [False, True], ids=["by path", "by host"])
def test_event_of_a_function_url(product: Product, by_host: bool) -> None:
    name = product.deploy("def handler(e, c): return e")
    product.publish_url(name)
    before = product.url_path(name)
    url_id = before.split("/")[2]
    assert re.fullmatch("[a-z0-9]{32}", url_id)
    domain = f"{url_id}.lambda-url.{REGION}.localhost"
    sent = {"Cookie": "k=v; l=w", "X-Mine": "1", "Content-Type": "text/plain", **({"Host": f"{domain}:9000"} if by_host else {})}
    path = ("/" if by_host else before) + "a/b%20c?x=1&x=2&y="
    status, headers, body = product.fetch(path, method="PUT", body="tschüß".encode(), headers=sent)
    assert (status, headers["content-type"]) == (200, "application/json")
    event = json.loads(body)
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "$default", "/a/b%20c")
    assert (event["rawQueryString"], event["queryStringParameters"]) == ("x=1&x=2&y=", {"x": "1,2", "y": ""})
    assert (event["cookies"], event["headers"]["x-mine"]) == (["k=v", "l=w"], "1")
    assert (event["body"], event["isBase64Encoded"]) == ("tschüß", False)
    context = event["requestContext"]
    assert (context["accountId"], context["apiId"], context["stage"]) == ("anonymous", url_id, "$default")
    assert (context["domainName"], context["domainPrefix"]) == (domain, url_id)
    http = {key: context["http"][key] for key in ("method", "path", "sourceIp")}
    assert http == {"method": "PUT", "path": "/a/b%20c", "sourceIp": "127.0.0.1"}
    assert context["requestId"] == headers["x-amzn-requestid"]


@pytest.mark.parametrize(
    ("returned", "status", "content_type", "body"),
    [
        ("'hello'", 200, "application/json", b"hello"),
        ("['hello', 3, True]", 200, "application/json", b'["hello",3,true]'),
        ("3.1", 200, "application/json", b"3.1"),
        ("{'hello': 'world'}", 200, "application/json", b'{"hello":"world"}'),
        ("{'statusCode': 201, 'body': 'body123'}", 201, "application/json", b"body123"),
        (
            "{'statusCode': 200, 'headers': {'Content-Type': 'image/png'}, 'body': 'AAEC', 'isBase64Encoded': True}",
            200,
            "image/png",
            b"\0\1\2",
        ),
        ("{'statusCode': 'no'}", 502, "text/plain", b"Internal Server Error"),
        ("1 / 0", 502, "text/plain", b"Internal Server Error"),
    ],
)
def test_answers_of_a_function_url(product: Product, returned: str, status: int, content_type: str, body: bytes) -> None:
    name = product.deploy(f"def handler(e, c): return {returned}")
    product.publish_url(name)
    got, headers, content = product.fetch(product.url_path(name))
    assert (got, headers["content-type"], content) == (status, content_type, body)


def test_function_url_of_an_alias(product: Product) -> None:
    aws = product.client
    name = product.deploy(says("one"))
    aws.publish_version(FunctionName=name)
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    product.publish_url(name, Qualifier="live")
    path = product.url_path(name, Qualifier="live")
    aws.update_function_code(FunctionName=name, ZipFile=package({"app.py": says("two")}))
    product.updated(name)
    assert product.fetch(path)[2] == b"one"
    aws.publish_version(FunctionName=name)
    aws.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    assert product.fetch(path)[2] == b"two"
