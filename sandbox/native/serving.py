"""A spawner as a program: begins when its supervisor starts it, serves one gateway after the other, and clears up at its end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import uvloop

from sandbox import process_log
from sandbox.errors import SandboxError
from sandbox.native import leftovers
from sandbox.native.config import Config
from sandbox.native.network import Networks, wish

log = logging.getLogger("lambent.spawner")


class Server(Protocol):
    """What a spawner is to its program."""

    async def start(self) -> None: ...
    def serve(self, sock: socket.socket) -> None: ...
    async def close(self) -> None: ...


Make = Callable[[Config, Networks], Awaitable[Server]]


def be_on_time() -> None:
    """Run as soon as there is something to do, also where everything computes: a kill has its moment.

    Measured with 11 processes that compute on 2 processors: 10 ms of sleep took up to 15 ms longer, with a nice value of -10
    9 ms, as a real-time task 2.5 ms. It is only for this thread: its other threads and all that it starts are ordinary. Without
    the right to it nothing is worse than late. Those that it kills come next (`Group.hurry`).
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(2))


async def run(config: Config, status_fd: int, make: Make) -> None:
    """Serve until SIGTERM, which also comes when the supervisor dies; then nobody but this process can clear up after it."""
    supervisor = os.getppid()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = socket.socket(fileno=config.listen_fd)
    listener.setblocking(False)
    networks = Networks()
    wanted = wish(config.owner, config.network_allow, config.network_range)
    try:
        mode = "none" if config.docker_runtime_api == "bridge" else config.network
        await loop.run_in_executor(networks.executor, networks.open, mode, wanted)
        spawner = await make(config, networks)
        try:
            await spawner.start()
            loop.add_reader(listener.fileno(), lambda: _accept(listener, spawner))
            say(status_fd, "ready")
            await stop.wait()
        finally:
            loop.remove_reader(listener.fileno())
            await spawner.close()
    finally:
        await loop.run_in_executor(networks.executor, networks.close)
        networks.executor.shutdown()
        await loop.run_in_executor(None, leftovers.sweep, config.owner)
        listener.close()
        if os.getppid() != supervisor:
            leftovers.clear(Path(config.run_dir))


def _accept(listener: socket.socket, spawner: Server) -> None:
    try:
        sock, _ = listener.accept()
    except BlockingIOError:
        return
    spawner.serve(sock)


def say(status_fd: int, line: str) -> None:
    """One line to the supervisor: ``ready``, or ``failed`` and the reason."""
    os.write(status_fd, f"{line}\n".encode())
    os.close(status_fd)


def serve(make: Make, program: str) -> None:
    """The whole program."""
    parser = argparse.ArgumentParser(prog=program, description="Makes sandboxes; started by `lambent up`.")
    parser.add_argument("config", help="Config as JSON")
    parser.add_argument("--status-fd", type=int, required=True)
    arguments = parser.parse_args()
    try:
        config = Config(**json.loads(arguments.config))
        be_on_time()
        process_log.configure(
            level=config.log_level, form=config.log_format, stream=sys.stderr, process="spawner", prefix="spawner: "
        )
        uvloop.run(run(config, arguments.status_fd, make))
    except (OSError, SandboxError) as error:
        log.error("%s", error)
        with contextlib.suppress(OSError):
            say(arguments.status_fd, f"failed {error}")
        sys.exit(1)
