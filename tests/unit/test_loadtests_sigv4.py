"""The signatures of the load tests are those of botocore."""

from __future__ import annotations

import calendar
import time

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from loadtests.sigv4 import Signer

PATH = "/2015-03-31/functions/load-1-echo-0/invocations"


@pytest.mark.parametrize("body", [b"", b'{"body": "hello"}', b"\xff\x00"])
@pytest.mark.parametrize("host", ["127.0.0.1:9000", "lambent.example.com"])
def test_as_botocore_signs(host: str, body: bytes) -> None:
    request = AWSRequest("POST", f"http://{host}{PATH}", data=body)
    SigV4Auth(Credentials("AKIDEXAMPLE", "a/secret+key"), "lambda", "eu-west-1").add_auth(request)
    signed_at_s = calendar.timegm(time.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    ours = Signer("AKIDEXAMPLE", "a/secret+key", "eu-west-1").headers("POST", host, PATH, body, signed_at_s)
    assert ours == {name: request.headers[name] for name in ("X-Amz-Date", "Authorization")}


def test_another_day_has_another_key() -> None:
    signer = Signer("any", "any", "us-east-1")
    first = signer.headers("POST", "h", PATH, b"", 0.0)
    later = signer.headers("POST", "h", PATH, b"", 86_400.0)
    assert first["Authorization"] != later["Authorization"]
    assert later == Signer("any", "any", "us-east-1").headers("POST", "h", PATH, b"", 86_400.5)
