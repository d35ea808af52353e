"""The functions that a load test calls: put online before it, under names of their own, and removed after it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import uuid
import zipfile
from collections.abc import Callable, Mapping
from typing import Final

import click

from gateway.cli.api import DEFAULT_ENDPOINT, Api, ApiProblem, function_path
from gateway.cli.bench.load import Target
from gateway.cli.deploy import Wish, publish_url, put, python_runtimes, settle

LARGE_BYTES: Final = 64 * 1024
_HANDLER: Final = """
def handler(event, context):
    return {{"statusCode": 200, "headers": {{"content-type": "text/plain"}}, "body": {body}}}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A function's code, and `right(sent, answered)`: whether it answered as it should."""

    source: str
    right: Callable[[str, str], bool]


def _echoed(sent: str, answered: str) -> bool:
    return answered == sent


KINDS: Final[Mapping[str, Kind]] = {
    "echo": Kind(_HANDLER.format(body='event["body"]'), _echoed),
    # About a millisecond of computing.
    "compute": Kind(
        "import hashlib\n" + _HANDLER.format(body='hashlib.pbkdf2_hmac("sha256", event["body"].encode(), b"", 1500).hex()'),
        lambda sent, answered: len(answered) == 64,
    ),
    # Waits as for a database: the sandbox is taken, the processor is not.
    "wait": Kind("import time\n" + _HANDLER.format(body='(time.sleep(0.02), event["body"])[1]'), _echoed),
    "large": Kind(_HANDLER.format(body=f'"x" * {LARGE_BYTES}'), lambda sent, answered: answered == "x" * LARGE_BYTES),
    # Says how many calls its sandbox has had: the first is the cold one.
    "cold": Kind(
        "import itertools\ncalls = itertools.count(1)\n" + _HANDLER.format(body="str(next(calls))"),
        lambda sent, answered: answered == "1",
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A function that is online. `url` is where its URL is reached at the gateway."""

    name: str
    kind: Kind
    url: Target

    @property
    def invocations(self) -> str:
        """The path of Invoke."""
        return function_path(self.name, "/invocations")


class Functions:
    """What one load test has put online at `endpoint`. Every method raises click.ClickException where the API says no."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.made: list[str] = []
        self._prefix = f"load-{uuid.uuid4().hex[:8]}"

    def deploy(self, kind: str, *, memory_mb: int | None = None) -> Function:
        """A new function of this kind, with a public URL, ready to be called."""
        api = Api(self.endpoint)
        name = f"{self._prefix}-{kind}-{len(self.made)}"
        self.made.append(name)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as package:
            package.writestr("app.py", KINDS[kind].source)
        try:
            runtime = python_runtimes(api)[0]
            wish = Wish(name=name, runtime=runtime, handler="app.handler", timeout_s=30, memory_mb=memory_mb)
            put(api, wish, archive.getvalue())
            return Function(name, KINDS[kind], Target.of(publish_url(api, name), self.endpoint))
        finally:
            api.close()

    def chill(self, function: Function, api: Api, round_: int) -> None:
        """Change the function's configuration, so that the next call finds no sandbox of it."""
        path = function_path(function.name, "/configuration")
        api.call("PUT", path, {"Environment": {"Variables": {"ROUND": str(round_)}}})
        settle(api, function.name)

    def remove(self) -> None:
        """Remove all of them; those that somebody else removed are no problem."""
        api = Api(self.endpoint)
        try:
            while self.made:
                try:
                    api.call("DELETE", function_path(self.made[-1]))
                except ApiProblem as problem:
                    if problem.status != 404:
                        raise
                self.made.pop()
        finally:
            api.close()


def endpoint_of_environment() -> str:
    """The gateway's address: LAMBENT_ENDPOINT, or where `lambent up` listens by itself."""
    return os.environ.get("LAMBENT_ENDPOINT") or DEFAULT_ENDPOINT


def event(body: str) -> bytes:
    """The event that an API call sends, for the same code as the event of a function URL."""
    return json.dumps({"body": body}).encode()


def body_of(payload: bytes) -> str:
    """The body in what Invoke answered. Raises click.ClickException where there is none: an error of the function."""
    try:
        return str(json.loads(payload)["body"])
    except (ValueError, KeyError, TypeError):
        raise click.ClickException(f"the function answered {payload[:200].decode(errors='replace')}") from None
