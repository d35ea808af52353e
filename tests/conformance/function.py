"""The function that every driver is tried with: what its events make it do, as a handler and as a fake runtime's script."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, Final

from sandbox.fake_driver import FakeExtension, FakeRuntime

HANDLER: Final = """
import ctypes, os, signal, threading, time

print("init", flush=True)
STATE = {"calls": 0}
FILE = os.path.join(os.environ.get("TMPDIR", "/tmp"), "conformance")


def tick():
    while True:
        os.write(1, b"tick\\n")
        time.sleep(0.005)


def handler(event, context):
    STATE["calls"] += 1
    do = event["do"]
    if do == "echo":
        return event
    if do == "calls":
        return STATE["calls"]
    if do == "print":
        print(event["text"], flush=True)
    if do == "write":
        with open(FILE, "w") as file:
            file.write(event["text"])
    if do == "read":
        try:
            with open(FILE) as file:
                return file.read()
        except FileNotFoundError:
            return None
    if do == "tick":
        if os.fork() == 0:
            os.setsid()
            tick()
    if do == "hang":
        time.sleep(1000)
    if do == "exit":
        print("last words", flush=True)
        os._exit(event["code"])
    if do == "kill":
        os.kill(os.getpid(), event["signal"])
        time.sleep(1000)
    if do == "eat":
        block = bytearray(event["bytes"])
        for index in range(0, len(block), 4096):
            block[index] = 1
"""


#: An extension that says so, and does what DO says.
EXTENSION: Final = """#!/bin/sh
echo agent
case $DO in
exit) exit 5 ;;
tick) while :; do echo tick; sleep 0.01; done ;;
esac
exec sleep 1000
"""


async def extension(inside: FakeExtension) -> None:
    """The same for the fake driver."""
    await inside.print(b"agent\n")
    match inside.environment.get("DO"):
        case "exit":
            inside.exit(5)
        case "tick":
            await _tick(inside)
    await inside.hang()


async def script(runtime: FakeRuntime) -> None:
    """The same for the fake driver, where a process is a coroutine."""
    await runtime.print(b"init\n")
    calls = 0
    children: list[asyncio.Task[None]] = []
    try:
        while True:
            request_id, payload = await runtime.next()
            calls += 1
            event = json.loads(payload)
            answer: Any = None
            match event["do"]:
                case "echo":
                    answer = event
                case "calls":
                    answer = calls
                case "print":
                    await runtime.print(event["text"].encode() + b"\n")
                case "write":
                    runtime.tmp["conformance"] = event["text"].encode()
                case "read":
                    kept = runtime.tmp.get("conformance")
                    answer = kept.decode() if kept is not None else None
                case "tick":
                    children.append(asyncio.get_running_loop().create_task(_tick(runtime)))
                case "hang":
                    await runtime.hang()
                case "exit":
                    await runtime.print(b"last words\n")
                    runtime.exit(event["code"])
                case "kill":
                    runtime.kill(event["signal"])
                case "eat":
                    runtime.kill(9, oom=True)
            await runtime.respond(request_id, json.dumps(answer).encode())
    finally:
        for child in children:
            child.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await child


async def _tick(runtime: FakeRuntime) -> None:
    while True:
        await runtime.print(b"tick\n")
        await runtime.sleep(0.005)
