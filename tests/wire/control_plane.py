"""A control plane to test: the real store, code and API behind a plain HTTP server in a thread, and packages to send to it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from aiohttp import web
from botocore.exceptions import ClientError

from gateway.clock import SystemClock
from gateway.control.control import Control
from gateway.edge.api import LambdaApi
from gateway.records import FunctionVersion
from sandbox.spec import Architecture, Image

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

ACCOUNT = "123456789012"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/lambda-role"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
SOURCE = "def handler(event, context):\n    return event\n"


def package(files: Mapping[str, str | bytes] | None = None) -> bytes:
    """A deployment package. The same files make the same package."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as opened:
        for name, content in (files or {"index.py": SOURCE}).items():
            opened.writestr(zipfile.ZipInfo(name), content)
    return found.getvalue()


def described(**more: Any) -> dict[str, Any]:
    """CreateFunction's arguments for a small function."""
    return {"Runtime": "python3.12", "Role": ROLE, "Handler": "index.handler", "Code": {"ZipFile": package()}, **more}


def refused(call: Any, **arguments: Any) -> dict[str, Any]:
    """The error that a call of a boto3 client is answered with: code, message, status, and the members of its shape."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response: dict[str, Any] = dict(caught.value.response)
    error, metadata = response.pop("Error"), response.pop("ResponseMetadata")
    return {"code": error["Code"], "text": error["Message"], "http": metadata["HTTPStatusCode"], **response}


async def _image(uri: str, architecture: Architecture) -> Image:
    """Whatever it is called, it is there."""
    return Image(id="sha256:" + "1" * 64, resolved_uri=uri, size_bytes=5, architecture="amd64", command=("/x",))


class Served:
    """A control plane on 127.0.0.1, in its own thread, until `close`."""

    def __init__(self, data_dir: Path, region: str = REGION) -> None:
        self._data_dir = data_dir
        self._region = region
        self._loop = asyncio.new_event_loop()
        self._gate = asyncio.Event()
        self._gate.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="control plane")
        self._thread.start()
        self.endpoint = self.run(self._open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def close(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is Pending or InProgress when this begins, and meanwhile, stays so until it ends."""
        self._loop.call_soon_threadsafe(self._gate.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._gate.set)

    async def _prepare(self, version: FunctionVersion) -> None:
        await self._gate.wait()

    async def _open(self) -> str:
        self.control = await Control.open(
            data_dir=self._data_dir,
            account_id=ACCOUNT,
            region=self._region,
            clock=SystemClock(),
            url_for=lambda url_id: f"http://{url_id}.lambda-url.{REGION}.localhost:9000/",
            prepare=self._prepare,
            find_image=_image,
        )
        self._api = LambdaApi(rules=self.control.rules, links=self.control.links)
        self._server = web.Server(self._handle, access_log=None, lingering_time=0.1)
        self._listener = await asyncio.get_running_loop().create_server(self._server, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        self._listener.close()
        await self._server.shutdown(1)
        await self.control.close()
        await asyncio.get_running_loop().shutdown_default_executor()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._api.handle(request, str(uuid.uuid4()))
        response.force_close()  # so that no test leaves a connection to the next one
        return response

    async def connections_gone(self) -> None:
        """Wait until every connection that a client has closed is closed here, too."""
        while self._server.connections:  # noqa: ASYNC110 (aiohttp has no event for it)
            await asyncio.sleep(0.001)
