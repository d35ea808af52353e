"""The gateway process: the composition root, the only file that knows every part.

Each part is made here and given what it uses; news that goes up (a function changed, a sandbox is gone) travels by callbacks
wired here. What was opened is closed in the opposite order, the front door first. The supervisor hears on a pipe when the gateway
can serve, or why it cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import functools
import gc
import importlib.metadata
import logging
import os
import random
import secrets
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import orjson
import uvloop

from gateway import host, listening
from gateway.advice import Advice
from gateway.banner import banner
from gateway.clock import SystemClock
from gateway.control.catalog import Catalog
from gateway.control.control import Control
from gateway.drain import Ending
from gateway.edge.api import LambdaApi
from gateway.edge.reply import Reply
from gateway.edge.server import EdgeServer
from gateway.edge.stream import MB, StreamLimits
from gateway.errors import ResourceNotFoundException
from gateway.invoke.invoker import Invoker
from gateway.metrics import Metrics
from gateway.observe.lag import Lag
from gateway.observe.logs import Logs
from gateway.observe.pressure import Pressure
from gateway.observe.retention import DAY_S, Keep
from gateway.observe.trace import Ids
from gateway.pool.pool import Pool
from gateway.scheduler.policy import MIB, Policy
from gateway.settings import DEFINITIONS, SettingError, Settings, load
from gateway.status import Status
from gateway.store.db import StoreError
from gateway.tally import Tallies
from gateway.up import CODE, LOGS, STATE
from gateway.voice import utter
from sandbox import process_log
from sandbox.docker.driver import DockerDriver
from sandbox.driver import Driver
from sandbox.environment import Credentials
from sandbox.errors import SandboxError
from sandbox.native.driver import NativeDriver
from sandbox.native.plain import PlainDriver
from sandbox.sandbox import ApiInside, Sandbox
from sandbox.spec import StemKey

if TYPE_CHECKING:
    from aiohttp import web

_log = logging.getLogger("gateway")

_JSON: Final = b"Content-Type: application/json\r\n"
ADVICE: Final = "/_lambent/advice/"  #: then the name of a function: what speaks against it, as a list of sentences

#: What cannot work is told in one sentence, without the way through our code that led there.
_EXPECTED: Final = (SettingError, StoreError, SandboxError, OSError)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the supervisor made of this process."""

    owner: str
    spawner: str | None  #: path of the spawner's socket; None without root
    runs_as: str | None  #: which user and rights, for people


async def serve(settings: Settings, place: Place, ready: Callable[[str], None]) -> None:
    """Run the gateway until it is told to end. `ready` is called with the endpoint once it can serve."""
    ending = Ending()
    clock = SystemClock()
    state_dir = settings.data_dir / STATE
    # The socket first: whether the port is free is the likeliest of all reasons not to start, and URLs need its number.
    listener = listening.listener(settings.host, settings.port)
    async with contextlib.AsyncExitStack() as opened:
        opened.callback(listener.close)
        endpoint = host.endpoint(settings.host, listener.getsockname()[1])
        urls = await host.urls(settings, endpoint)
        driver = _driver(settings, place)
        opened.push_async_callback(driver.close)
        if not await ending.unless_begun(driver.start()):
            return
        logs = Logs(
            directory=state_dir / LOGS,
            clock=clock,
            segment_bytes=settings.log_function_mb * host.MIB // 2,
            segments=2,
            keep=Keep(settings.log_keep_days * DAY_S or None, settings.log_total_mb * host.MIB),
        )
        logs.start()
        opened.push_async_callback(asyncio.to_thread, logs.close)
        control = await Control.open(
            data_dir=state_dir,
            account_id=settings.account_id,
            region=settings.region,
            clock=clock,
            url_for=urls.url,
            concurrency_limit=settings.concurrency_limit,
            find_image=driver.image,
        )
        opened.push_async_callback(control.close)

        credentials = _credentials()

        async def open_sandbox(key: StemKey) -> Sandbox:
            handle = await driver.create(key)
            inside = ApiInside(endpoint, edge.serve_inside)
            return await Sandbox.open(handle, key, clock=clock, credentials=credentials, lambda_api=inside)

        tallies = Tallies(settings.metrics_functions)
        policy = _policy(settings, driver)
        pool = Pool(
            open_sandbox=open_sandbox,
            code_path=control.code.path,
            logs=logs,
            clock=clock,
            policy=policy,
            tallies=tallies,
        )
        opened.push_async_callback(pool.close, 0)
        pool.on_provisioned = control.provisioned.settle
        control.catalog.subscribe(pool.function_changed)
        advice = Advice(driver, control.layer, policy.memory_bytes / MIB)
        opened.push_async_callback(advice.close)
        control.catalog.subscribe(advice.function_changed)
        advice.tell()
        control.provisioned.watch(pool.standing)
        lag = Lag(clock)
        lag.start()
        opened.callback(lag.close)
        status = Status(
            version=_version(),
            endpoint=endpoint,
            driver=driver,
            pool=pool,
            tallies=tallies,
            owner=place.owner,
            clock=clock,
            lag=lag,
        )
        pressure = Pressure(pool.pressed)
        pressure.start()
        opened.callback(pressure.close)
        metrics = Metrics(
            version=_version(),
            driver=driver.name,
            pool=pool,
            tallies=tallies,
            lag=lag,
            spawner_restarts=lambda: driver.spawner_ends if isinstance(driver, NativeDriver) else 0,
        )
        edge = EdgeServer(
            catalog=control.catalog,
            invoker=Invoker(
                catalog=control.catalog,
                pool=pool,
                clock=clock,
                random=random.random,
                region=settings.region,
                account_id=settings.account_id,
                queue_wait_s=settings.queue_wait_s,
            ),
            api=LambdaApi(rules=control.rules, links=control.links),
            logs=logs,
            clock=clock,
            ids=Ids(os.urandom),
            region=settings.region,
            account_id=settings.account_id,
            url_domain=urls.domain,
            hosts=host.names(settings),
            local=functools.partial(_local, status, metrics, control.catalog, advice),
            limits=StreamLimits(
                settings.stream_max_mb * MB, None if settings.stream_mb_per_s is None else settings.stream_mb_per_s * MB
            ),
        )
        opened.push_async_callback(edge.close)
        # What is here now stays to the end. A full collection would look at all of it (55,000 objects, mostly botocore's model)
        # and take 35 ms, in which nobody is answered.
        gc.collect()
        gc.freeze()
        await edge.start(sock=listener)
        utter(
            sys.__stdout__,
            banner(
                version=_version(),
                endpoint=endpoint,
                usual=endpoint == _usual_endpoint(),
                region=settings.region,
                driver=driver.name,
                isolation=driver.isolation,
                isolated=place.spawner is not None,
                runs_as=place.runs_as,
                data_dir=str(settings.data_dir),
                to=sys.stdout,
            ),
        )
        ready(endpoint)
        await ending.begun
        if edge.running:
            _log.info("ending: %d running, which may take %g s to finish", edge.running, settings.drain_s)
        await ending.patiently(edge.drain(settings.drain_s))


def _driver(settings: Settings, place: Place) -> Driver:
    """Sandboxes where there is a spawner. Without root there are none, whatever the setting: the banner says so."""
    code_dir = str(settings.data_dir / STATE / CODE)
    if place.spawner is not None:
        return (DockerDriver if settings.driver == "docker" else NativeDriver)(place.spawner, code_dir)
    return PlainDriver()


def _credentials() -> Credentials:
    """What SDKs find inside, and want before they send anything: in AWS's form, new with each start, worth nothing elsewhere."""
    key_id = "ASIA" + base64.b32encode(secrets.token_bytes(10)).decode()
    return Credentials(key_id, secrets.token_urlsafe(30), secrets.token_urlsafe(96))


def _policy(settings: Settings, driver: Driver) -> Policy:
    memory_bytes = host.memory_budget_bytes(settings)
    return Policy(
        memory_bytes=memory_bytes,
        max_sandboxes=host.max_sandboxes(settings),
        concurrency=settings.concurrency_limit,
        request_rate=settings.request_rate,
        scaling_rate=settings.scaling_rate,
        queue_max=settings.queue_max,
        queue_max_per_key=settings.queue_max_per_function,
        freeze_after_s=settings.freeze_after_ms / 1000,
        keep_alive=settings.keep_alive,
        freeze_provisioned_s=None
        if settings.freeze_provisioned_after_ms is None
        else settings.freeze_provisioned_after_ms / 1000,
        keep_alive_s=settings.keep_alive_s,
        stems=lambda key: host.stems(settings, memory_bytes, light=driver.is_light(key)),
    )


async def _local(
    status: Status, metrics: Metrics, catalog: Catalog, advice: Advice, request: web.BaseRequest
) -> web.StreamResponse:
    """What is Lambent's own and not a log: /metrics, and what is below /_lambent/."""
    if request.path == "/metrics" and request.method in ("GET", "HEAD"):
        return await metrics.answer(request)
    if request.path == "/_lambent/top" and request.method == "GET":
        return Reply(200, _JSON, orjson.dumps(status.top()))
    if request.path == "/_lambent/status" and request.method == "GET":
        return Reply(200, _JSON, orjson.dumps(status.report()))
    if request.path.startswith(ADVICE) and request.method == "GET":
        function = catalog.get(request.path.removeprefix(ADVICE))
        if function is not None:
            return Reply(200, _JSON, orjson.dumps(await advice.of(function.latest)))
    raise ResourceNotFoundException(f"There is nothing at {request.method} {request.path}.")


def _usual_endpoint() -> str:
    """Where the commands look for Lambent when nobody tells them."""
    defaults = {definition.name: definition.default for definition in DEFINITIONS}
    return host.endpoint(defaults["host"], defaults["port"])


def _version() -> str:
    return importlib.metadata.version("lambent")


def _reason(error: Exception, settings: Settings) -> str:
    """What to tell somebody who wanted to start it."""
    if (told := listening.reason(error, settings.host, settings.port)) is not None:
        return told
    if isinstance(error, PermissionError):
        return f"data_dir: no right to use {error.filename}. It must belong to the gateway's user."
    return str(error) or type(error).__name__


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -P -m gateway.app``, started by the supervisor with every setting in the environment. The exit code."""
    parser = argparse.ArgumentParser(prog="gateway.app", description="The gateway; started by `lambent up`.")
    parser.add_argument("--owner", required=True)
    parser.add_argument("--spawner")
    parser.add_argument("--runs-as")
    parser.add_argument("--status-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    os.set_inheritable(options.status_fd, False)
    settings = load({}, os.environ)
    process_log.configure(level=settings.log_level, form=settings.log_format, stream=sys.stderr, process="gateway")

    def say(words: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(options.status_fd, words.replace("\n", " ").encode() + b"\n")

    # A thread that unpacks a package would make the event loop wait 5 ms for the interpreter, again and again.
    sys.setswitchinterval(0.001)
    place = Place(owner=options.owner, spawner=options.spawner, runs_as=options.runs_as)
    try:
        uvloop.run(serve(settings, place, lambda endpoint: say(f"ready {endpoint}")))
    except _EXPECTED as error:
        say(f"failed {_reason(error, settings)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
