"""Two servers to compare: ``python speed_servers.py hello|edge`` prints its port and serves on uvloop until it is killed.

hello is aiohttp's hello world, edge the gateway's front door with an invoker that runs nothing and answers hello at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvloop
from aiohttp import web

from gateway.clock import SystemClock
from gateway.control.catalog import Catalog
from gateway.edge.server import EdgeServer
from gateway.errors import ApiError
from gateway.invocation import Invocation, InvokeResult
from gateway.observe.logs import Logs
from gateway.observe.trace import Ids
from gateway.records import FunctionVersion
from tests.wire.edge import ACCOUNT, REGION, VERSION, ScriptedApi, function, result


class Nothing:
    """An invoker that only answers."""

    def start(self, invocation: Invocation, answered: Callable[[InvokeResult | ApiError], None]) -> Nothing:
        answered(result(b'{"statusCode": 200, "body": "hello"}'))
        return self

    def leave(self) -> None: ...

    async def invoke(self, invocation: Invocation) -> InvokeResult:
        return result(b'{"statusCode": 200, "body": "hello"}')

    def resolve(self, function_name: str, qualifier: str | None) -> FunctionVersion:
        return VERSION

    def stops_loops(self, function_name: str) -> bool:
        return True


async def hello() -> int:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


async def edge(directory: Path) -> int:
    clock = SystemClock()
    catalog = Catalog([function()])
    server = EdgeServer(
        catalog=catalog,
        invoker=Nothing(),
        api=ScriptedApi(),
        logs=Logs(directory=directory, clock=clock),
        clock=clock,
        ids=Ids(os.urandom),
        region=REGION,
        account_id=ACCOUNT,
    )
    await server.start(port=0)
    return server.port


async def main(which: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        print(await hello() if which == "hello" else await edge(Path(directory)), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
