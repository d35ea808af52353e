"""The functions that are measured, and their way into a gateway."""

from __future__ import annotations

import io
import zipfile
from typing import Final

from gateway.cli.api import Api
from gateway.cli.bench.instance import Instance
from gateway.cli.bench.load import Target
from gateway.cli.deploy import Wish, publish_url, put, python_runtimes

ECHO: Final = """
def handler(event, context):
    return {"statusCode": 200, "body": event.get("body") or "Hello, world!"}
"""


def deploy(instance: Instance, api: Api, name: str) -> Target:
    """The echo handler as function `name`, in code of its own, so that nothing of one function helps another."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("app.py", f"# {name}{ECHO}")
    runtime = python_runtimes(api)[0]
    put(api, Wish(name=name, runtime=runtime, handler="app.handler", timeout_s=10), archive.getvalue())
    return Target.of(publish_url(api, name), instance.endpoint)
