"""A runtime and an extension that make the calls that a test tells them to, byte for byte, and say what they were answered."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.real.extensions import layer
from tests.real.product import Product

#: As `bootstrap`. AT_INIT: calls before it first asks for work. An event that is a list is calls; "seen": what the last ones were
#: answered; "event": what came with this one. ID stands for the request's id, a number in place of a body for so many bytes.
#: Unless one of the calls was an answer, it answers with what they were answered.
RUNTIME: Final = r"""#!/usr/bin/env python3
import http.client, json, os
API = os.environ["AWS_LAMBDA_RUNTIME_API"]


def call(method, path, headers, body, to=None):
    to = to or http.client.HTTPConnection(API)
    to.request(method, path, b"x" * body if isinstance(body, int) else body, headers)
    answer = to.getresponse()
    return [answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode("latin-1")]


def calls(wanted, request_id=""):
    said, answered = [], False
    for method, path, headers, body in wanted:
        said.append(call(method, path.replace("ID", request_id), headers, body))
        answered |= "invocation/ID/" in path and said[-1][0] in (202, 413) or "x-answers" in headers
    return said, answered


main = http.client.HTTPConnection(API)
seen, _ = calls(json.loads(os.environ.get("AT_INIT", "[]")))
while True:
    status, headers, event = call("GET", "/2018-06-01/runtime/invocation/next", {}, None, main)
    if status != 200:
        print("refused:", status, event, flush=True)
        os._exit(1)
    me, wanted = headers["lambda-runtime-aws-request-id"], json.loads(event)
    answer, answered = [status, headers, event], False
    if wanted == "seen":
        answer = seen
    elif isinstance(wanted, list):
        seen, answered = calls(wanted, me)
        answer = seen
    if not answered:
        call("POST", "/2018-06-01/runtime/invocation/%s/response" % me, {}, json.dumps(answer))
"""

#: As an extension. BEFORE, AFTER, WITHIN: calls before it registers (REGISTER: body, WITH: further headers), after that, and
#: while it has its first INVOKE. ME stands for its identifier. Each answer is a line: status, headers of Lambda's, body.
EXTENSION: Final = r"""#!/usr/bin/env python3
import http.client, json, os, sys, time
NAME = os.path.basename(sys.argv[0])
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
me = ""


def call(method, path, headers, body=None):
    api.request(method, path, body, {name: value.replace("ME", me) for name, value in headers.items()})
    answer = api.getresponse()
    own = {name.lower(): value for name, value in answer.getheaders() if name.lower().startswith("lambda")}
    text = answer.read().decode()
    try:
        text = json.loads(text)
    except ValueError:
        pass
    print(json.dumps({NAME: [answer.status, own, text]}), flush=True)
    return own, text


def calls(when):
    for one in json.loads(os.environ.get(when, "[]")):
        call(*one)


calls("BEFORE")
own, _ = call(
    "POST",
    "/2020-01-01/extension/register",
    {"Lambda-Extension-Name": NAME, **json.loads(os.environ.get("WITH", "{}"))},
    os.environ.get("REGISTER", '{"events":["INVOKE","SHUTDOWN"]}'),
)
me = own["lambda-extension-identifier"]
calls("AFTER")
first = True
while True:
    _, event = call("GET", "/2020-01-01/extension/event/next", {"Lambda-Extension-Identifier": me})
    if "eventType" not in event:
        time.sleep(600)  # it was refused, and stays
    if event["eventType"] == "SHUTDOWN":
        sys.exit(0)
    if first:
        calls("WITHIN")
    first = False
"""

Called = tuple[str, str, dict[str, str], str | int | None]
RUNTIME_API: Final = "/2018-06-01/runtime"
EXTENSIONS_API: Final = "/2020-01-01/extension"


def runtime(product: Product, at_init: list[Called] | None = None, **settings: Any) -> str:
    """A function whose runtime does as it is told; its name."""
    variables = {"AT_INIT": json.dumps(at_init)} if at_init else {}
    usual = {"Runtime": "provided.al2023", "Handler": "any", "Timeout": 10, "Environment": {"Variables": variables}}
    return product.deploy({"bootstrap": RUNTIME}, **{**usual, **settings})


def extension(product: Product, code: str, settings: dict[str, Any] | None = None, **when: Any) -> str:
    """A function with the extension `caller`, which makes these calls; its name. `register` and `with_` are as for EXTENSION."""
    named = {name.strip("_").upper(): value if name == "register" else json.dumps(value) for name, value in when.items()}
    arn = layer(product, {"caller": EXTENSION})
    return product.deploy(code, **{"Layers": [arn], "Environment": {"Variables": named}, "Timeout": 10, **(settings or {})})


def error(told: Any) -> tuple[int, str, str]:
    """Status, type and message of a refusal, as either of them says it."""
    status, _, body = told
    document = json.loads(body) if isinstance(body, str) else body
    assert set(document) == {"errorType", "errorMessage"}
    return status, document["errorType"], document["errorMessage"]
