"""The whole product as its users reach it: functions made with boto3, called with boto3 and HTTP, and what the host has of it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import io
import json
import socket
import sys
import time
import urllib.parse
import uuid
import zipfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gateway.cli.bench.instance import Instance
from tests.processes import Family

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

PYTHON = f"python3.{sys.version_info.minor}"  #: a runtime that is there wherever the tests run
ROLE = "arn:aws:iam::000000000000:role/any"
SOON_S = 10.0  #: what must come by itself, on a machine with other work


def package(files: Mapping[str, str | bytes]) -> bytes:
    """A deployment package; all that is in it may be executed."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            opened.writestr(entry, content)
    return archive.getvalue()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What Invoke answered; `log` is the tail of the log."""

    request_id: str
    function_error: str | None
    version: str
    payload: bytes
    log: str
    took_s: float

    @property
    def value(self) -> Any:
        return json.loads(self.payload)


class Product:
    """A running Lambent with a boto3 client; it remembers which functions it made, and `clear` removes them."""

    def __init__(self, instance: Instance, client: LambdaClient) -> None:
        self.instance = instance
        self.client: Any = client  # untyped: tests look at what is there and what is not, and send what the types forbid
        self.made: list[str] = []

    @property
    def family(self) -> Family:
        """Its processes now."""
        return Family(self.instance.process.pid)

    def deploy(self, code: str | Mapping[str, str | bytes], **settings: Any) -> str:
        """A new function that can be invoked; `code` is app.py or all files. Its name, a new one if `settings` have none."""
        files = {"app.py": code} if isinstance(code, str) else code
        name = str(settings.pop("FunctionName", f"f-{uuid.uuid4().hex[:12]}"))
        wanted = {"Runtime": PYTHON, "Handler": "app.handler", "Role": ROLE, **settings}
        self.made.append(name)
        self.client.create_function(FunctionName=name, Code={"ZipFile": package(files)}, **wanted)
        self.client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 200})
        return name

    def invoke(self, name: str, event: Any = None, **arguments: Any) -> Answer:
        began_s = time.monotonic()
        answer = self.client.invoke(FunctionName=name, Payload=json.dumps(event), LogType="Tail", **arguments)
        took_s = time.monotonic() - began_s
        assert answer["StatusCode"] == 200
        return Answer(
            request_id=answer["ResponseMetadata"]["RequestId"],
            function_error=answer.get("FunctionError"),
            version=answer["ExecutedVersion"],
            payload=answer["Payload"].read(),
            log=base64.b64decode(answer["LogResult"]).decode(errors="replace"),
            took_s=took_s,
        )

    def updated(self, name: str) -> None:
        """Wait until an update is over."""
        self.client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 5000})

    def sandboxes(self, name: str) -> dict[str, int]:
        """How many sandboxes of a function there are, by state."""
        found: dict[str, int] = self.instance.status()["functions"].get(name, {})
        return found

    def log(self, name: str) -> list[str]:
        """All that is in a function's log, entry by entry."""
        api = self.instance.api
        try:
            lines = api.call("GET", f"/_lambent/logs/{name}").body.splitlines()
        finally:
            api.close()
        return [json.loads(line)["message"] for line in lines]

    def publish_url(self, name: str, **settings: Any) -> str:
        """A function URL that everybody may call; what is answered is FunctionUrl."""
        url = self.client.create_function_url_config(FunctionName=name, AuthType="NONE", **settings)["FunctionUrl"]
        self.allow_everybody(name, **({"Qualifier": settings["Qualifier"]} if "Qualifier" in settings else {}))
        return str(url)

    def allow_everybody(self, name: str, **more: Any) -> None:
        """The two statements that a public function URL needs since October 2025."""
        common = {"FunctionName": name, "Principal": "*", **more}
        self.client.add_permission(StatementId="url", Action="lambda:InvokeFunctionUrl", FunctionUrlAuthType="NONE", **common)
        self.client.add_permission(StatementId="invoke", Action="lambda:InvokeFunction", InvokedViaFunctionUrl=True, **common)

    def url_path(self, name: str, **more: Any) -> str:
        """The path under which every host name reaches a function's URL."""
        url = self.client.get_function_url_config(FunctionName=name, **more)["FunctionUrl"]
        host = urllib.parse.urlsplit(url).hostname
        assert host is not None
        return f"/_urls/{host.partition('.')[0]}/" if ".lambda-url." in host else urllib.parse.urlsplit(url).path

    def fetch(
        self, path: str, *, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """What plain HTTP gets: status, headers (names in lower case), body."""
        with contextlib.closing(
            http.client.HTTPConnection(urllib.parse.urlsplit(self.instance.endpoint).netloc, timeout=30)
        ) as to:
            to.request(method, path, body, headers or {})
            answer = to.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def remove(self, name: str) -> None:
        self.client.delete_function(FunctionName=name)
        self.made.remove(name)

    def clear(self) -> None:
        """Remove what was made and is still there."""
        while self.made:
            try:
                self.client.delete_function(FunctionName=self.made.pop())
            except self.client.exceptions.ResourceNotFoundException:
                continue


def connected(endpoint: str) -> socket.socket:
    """A client that sends what it is told to, byte for byte."""
    parts = urllib.parse.urlsplit(endpoint)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), 30)


def received(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next answer: status, headers (names in lower case) and body; a leading 100 is passed over."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def eventually(right: Callable[[], object], within_s: float = SOON_S) -> None:
    """Wait until it is right; for what comes by itself and says nothing when it is there."""
    deadline_s = time.monotonic() + within_s
    while not right():
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.01)
