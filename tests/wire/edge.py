"""An edge to test: the real server over a scripted invoker, and a client that sends exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway import arn
from gateway.clock import SystemClock
from gateway.control.catalog import Catalog
from gateway.edge.server import EdgeServer
from gateway.errors import ApiError
from gateway.invocation import Invocation, InvokeResult
from gateway.observe.logs import Logs
from gateway.observe.trace import Ids
from gateway.records import LATEST, Cors, Function, FunctionVersion, LoggingConfig, Policy, Statement, UrlConfig
from sandbox.outcome import Status
from sandbox.spec import Architecture

REGION = "us-east-1"
ACCOUNT = "123456789012"
URL_ID = "abcdefghijklmnopqrstuvwxyz012345"
HOST = f"{URL_ID}.lambda-url.{REGION}.localhost:9000"

VERSION = FunctionVersion(
    account_id=ACCOUNT,
    region=REGION,
    name="echo",
    version=LATEST,
    generation=1,
    runtime="python3.11",
    handler="app.handler",
    role="arn:aws:iam::123456789012:role/r",
    architecture=Architecture.X86_64,
    code_sha256="",
    code_size_bytes=1,
    code_key="k",
    logging=LoggingConfig(log_group="/aws/lambda/echo"),
    last_modified="2026-11-21T10:00:00.000+0000",
    revision_id="1",
)

BY_URL = Statement(
    sid="url",
    effect="Allow",
    principal="*",
    action="lambda:InvokeFunctionUrl",
    resource=VERSION.unqualified_arn,
    condition={"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
)
VIA_URL = Statement(
    sid="invoke",
    effect="Allow",
    principal="*",
    action="lambda:InvokeFunction",
    resource=VERSION.unqualified_arn,
    condition={"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
)
PUBLIC = Policy(statements=(BY_URL, VIA_URL), revision_id="1")


def function(
    name: str = "echo",
    *,
    policy: Policy | None = PUBLIC,
    auth_type: str = "NONE",
    invoke_mode: str = "BUFFERED",
    qualifier: str | None = None,
    cors: Cors | None = None,
) -> Function:
    """A function with a URL that everybody may call."""
    url = UrlConfig(
        url_id=URL_ID,
        function_name=name,
        qualifier=qualifier,
        auth_type=auth_type,
        invoke_mode=invoke_mode,
        cors=cors,
        creation_time="2026-11-21T10:00:00.000+0000",
        last_modified_time="2026-11-21T10:00:00.000+0000",
    )
    return Function(
        name=name,
        versions={LATEST: dataclasses.replace(VERSION, name=name)},
        urls={qualifier: url},
        policies={} if policy is None else {qualifier: policy},
    )


Handler = Callable[[Invocation], Awaitable[bytes | InvokeResult]]


def result(payload: bytes, status: Status = Status.SUCCESS, log_tail: bytes | None = None) -> InvokeResult:
    return InvokeResult(payload=payload, content_type="application/json", status=status, version=VERSION, log_tail=log_tail)


class Running:
    """An invocation that was started."""

    def __init__(self, work: Coroutine[Any, Any, InvokeResult], answered: Callable[[InvokeResult | ApiError], None]) -> None:
        self._answered = answered
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[InvokeResult]) -> None:
        if not task.cancelled():
            error = task.exception()
            assert error is None or isinstance(error, ApiError)
            self._answered(task.result() if error is None else error)

    def leave(self) -> None:
        self._task.cancel()


class ScriptedInvoker:
    """Runs `handler` for each invocation, which it keeps."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.invocations: list[Invocation] = []
        self.handler: Handler = self.echo
        self.left = asyncio.Event()  # an invocation was cancelled

    async def echo(self, invocation: Invocation) -> bytes:
        return invocation.payload

    def start(self, invocation: Invocation, answered: Callable[[InvokeResult | ApiError], None]) -> Running:
        self.resolve(invocation.function_name, invocation.qualifier)
        return Running(self.invoke(invocation), answered)

    async def invoke(self, invocation: Invocation) -> InvokeResult:
        version = self.resolve(invocation.function_name, invocation.qualifier)
        if invocation.stream is not None:
            invocation.stream.runs(version)
        self.invocations.append(invocation)
        try:
            answer = await self.handler(invocation)
        except asyncio.CancelledError:
            self.left.set()
            raise
        return answer if isinstance(answer, InvokeResult) else result(answer)

    def resolve(self, function_name: str, qualifier: str | None) -> FunctionVersion:
        found = self.catalog.get(function_name)
        if found is None or (qualifier is not None and qualifier not in found.versions and qualifier not in found.aliases):
            raise arn.not_found(REGION, ACCOUNT, function_name, qualifier)
        return found.latest

    def stops_loops(self, function_name: str) -> bool:
        found = self.catalog.get(function_name)
        return found is not None and found.recursive_loop == "Terminate"


class ScriptedApi:
    """Stands for the Lambda API: answers with what it was asked, after reading the body as `read` says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def handle(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        self.asked.append((request.method, request.raw_path))
        size = 0
        while chunk := await request.content.readany():
            size += len(chunk)
        return web.Response(text=f"{size} bytes")


@dataclasses.dataclass
class Edge:
    server: EdgeServer
    catalog: Catalog
    invoker: ScriptedInvoker
    api: ScriptedApi
    logs: Logs

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.server.port))

    async def request(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """One request on a connection of its own; Host is the function URL's unless given."""
        async with contextlib.aclosing(await self.connect()) as client:
            return await client.request(method, target, headers, body)

    async def send(self, *parts: bytes) -> bytes:
        """What comes back for these bytes, until the server closes."""
        async with contextlib.aclosing(await self.connect()) as client:
            for part in parts:
                client.writer.write(part)
                await client.writer.drain()
            return await client.reader.read()


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, *functions: Function, **options: Any) -> AsyncIterator[Edge]:
    """An edge that listens. `options` go to EdgeServer."""
    clock = SystemClock()
    catalog = Catalog(functions)
    invoker = ScriptedInvoker(catalog)
    api = ScriptedApi()
    logs = Logs(directory=tmp_path / "logs", clock=clock, flush_s=0.01)
    logs.start()
    server = EdgeServer(
        catalog=catalog,
        invoker=invoker,
        api=api,
        logs=logs,
        clock=clock,
        ids=Ids(os.urandom),
        region=REGION,
        account_id=ACCOUNT,
        **options,
    )
    await server.start(port=0)
    try:
        yield Edge(server, catalog, invoker, api, logs)
    finally:
        await server.close()
        await asyncio.to_thread(logs.close)


@dataclasses.dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    version: str

    def __getitem__(self, name: str) -> str:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) == 1, f"{name}: {values}"
        return values[0]

    def get(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Client:
    """A connection, on which whatever is wanted can be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def aclose(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def request(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        self.write(method, target, headers, body)
        return await self.answer(method)

    def write(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        given = {"Host": HOST, **(headers or {})}
        if body and "Transfer-Encoding" not in given:
            given.setdefault("Content-Length", str(len(body)))
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.writer.write(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)

    async def answer(self, method: str = "GET") -> Answer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")[:-2]
        version, status, _ = first.split(" ", 2)
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        answer = Answer(int(status), headers, b"", version)
        if method == "HEAD" or answer.status in (100, 204, 304):
            return answer
        if "chunked" in answer.get("Transfer-Encoding"):
            while size := int(await self.reader.readline(), 16):
                answer.body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
        else:
            answer.body = await self.reader.readexactly(int(answer["Content-Length"]))
        return answer
