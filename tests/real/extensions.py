"""Extensions for tests, in three languages: each says on its output, as JSON, what it is told; DO_name says what it does."""

from __future__ import annotations

import json
import shutil
from typing import Any, Final

from tests.real.product import Product, package

PYTHON: Final = r"""#!/var/lang/bin/python3
import http.client, json, os, signal, sys, time

NAME = os.path.basename(sys.argv[0])
DO = os.environ.get("DO_" + NAME, "")
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None, **headers):
    api.request(method, "/2020-01-01/extension" + path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = api.getresponse()
    return answer.status, answer.headers, json.loads(answer.read() or "null")


def say(what):
    print(json.dumps({NAME: what}), flush=True)


while os.environ.get("AFTER_" + NAME) and not os.path.exists("/tmp/" + os.environ["AFTER_" + NAME]):
    time.sleep(0.01)  # until that other one has registered
if DO == "exit in init":
    sys.exit(3)
if DO == "never register":
    time.sleep(1000)
if DO == "ignore SIGTERM":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
events = os.environ.get("EVENTS_" + NAME, "INVOKE SHUTDOWN").split()
body = json.dumps({"events": events})
status, headers, answer = call("POST", "/register", body, Lambda_Extension_Name=NAME, Lambda_Extension_Accept_Feature="accountId")
open("/tmp/" + NAME, "w").close()
say(answer)
if DO == "register twice":
    status, _, again = call("POST", "/register", body, Lambda_Extension_Name=NAME)
    say([status, again["errorType"]])
me = headers["Lambda-Extension-Identifier"]
if DO == "init error":
    call("POST", "/init/error", "{}", Lambda_Extension_Identifier=me, Lambda_Extension_Function_Error_Type="Extension.NoKey")
    sys.exit(1)
while True:
    status, headers, event = call("GET", "/event/next", Lambda_Extension_Identifier=me)
    say(event)
    if event["eventType"] == "INVOKE":
        if DO == "exit in invoke":
            sys.exit(4)
        if DO == "exit error":
            call("POST", "/exit/error", Lambda_Extension_Identifier=me, Lambda_Extension_Function_Error_Type="Extension.Bad")
            sys.exit(1)
        if DO == "work":
            time.sleep(0.5)
        if DO == "work for ever":
            time.sleep(1000)
    elif DO == "crash at shutdown":
        os.abort()
    elif DO != "ignore SIGTERM":
        sys.exit(0)
"""

SHELL: Final = r"""#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension"
name=$(basename "$0")
me=$(curl -s -D - -o /dev/null -H "Lambda-Extension-Name: $name" -d '{"events":["INVOKE","SHUTDOWN"]}' "$api/register" |
    sed -n 's/\r//; s/^Lambda-Extension-Identifier: //p')
while :; do
    event=$(curl -s -H "Lambda-Extension-Identifier: $me" "$api/event/next")
    echo "{\"$name\": $event}"
    case $event in *SHUTDOWN*) exit 0 ;; esac
done
"""

NODE: Final = r"""#!/usr/bin/env node
const http = require('http');
const path = require('path');
const name = path.basename(process.argv[1]);
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const call = (method, what, headers, body) => new Promise((resolve, reject) => {
  const request = http.request({host, port, method, path: '/2020-01-01/extension' + what, headers}, (answer) => {
    const pieces = [];
    answer.on('data', (piece) => pieces.push(piece));
    answer.on('end', () => resolve([answer.headers, JSON.parse(Buffer.concat(pieces))]));
  });
  request.on('error', reject);
  request.end(body);
});
(async () => {
  const [headers] = await call('POST', '/register', {'Lambda-Extension-Name': name}, '{"events":["INVOKE","SHUTDOWN"]}');
  for (;;) {
    const [, event] = await call('GET', '/event/next', {'Lambda-Extension-Identifier': headers['lambda-extension-identifier']});
    console.log(JSON.stringify({[name]: event}));
    if (event.eventType === 'SHUTDOWN') process.exit(0);
  }
})();
"""

#: Those that this host can run in a sandbox, by language.
LANGUAGES: Final = {
    "python": PYTHON,
    **({"shell": SHELL} if shutil.which("curl", path="/usr/bin:/bin") else {}),
    **({"node": NODE} if shutil.which("node", path="/usr/bin:/bin") else {}),
}


def layer(product: Product, scripts: dict[str, str], name: str = "extensions") -> str:
    """A layer with these extensions; its ARN."""
    content = package({f"extensions/{script}": text for script, text in scripts.items()})
    answer = product.client.publish_layer_version(LayerName=name, Content={"ZipFile": content})
    return str(answer["LayerVersionArn"])


def deploy(product: Product, code: str, scripts: dict[str, str], environment: dict[str, str] | None = None, **more: Any) -> str:
    """A function with these extensions; its name."""
    variables = {"Environment": {"Variables": environment}} if environment else {}
    return product.deploy(code, Layers=[layer(product, scripts)], **variables, **more)


def said(product: Product, name: str, extension: str) -> list[Any]:
    """What an extension has said, in order."""
    return [json.loads(line)[extension] for line in product.log(name) if line.startswith(f'{{"{extension}"')]


def told(product: Product, name: str, extension: str) -> list[str]:
    """The types of the events that it had."""
    return [one["eventType"] for one in said(product, name, extension) if isinstance(one, dict) and "eventType" in one]
