"""Whatever runtimes do and whenever sandboxes end, each invocation has one outcome, and the sandbox is free after it or gone.

Random lives on the fake driver under virtual time: each event tells the runtime how to behave, each life of the runtime begins in
its own way, and at a random moment the sandbox is stopped or vanishes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

import looptime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.driver import ExitStatus
from sandbox.errors import SandboxGone
from sandbox.fake_driver import FakeDriver, FakeRuntime
from sandbox.lifecycle import State
from sandbox.outcome import Outcome, Status
from sandbox.sandbox import Sandbox
from sandbox.testing import PlainLog
from tests.sandboxes import KEY, SPEC, LoopClock, User, work

TIMEOUT_S = 1.0
INITS = ("well", "slow", "error", "error and stay", "exit", "ask and exit", "hang")
BEHAVIOURS = (
    "answer",
    "slow",
    "error",
    "large",
    "twice",
    "for another",
    "next at once",
    "exit",
    "exit after",
    "told before sent",
    "hang",
    "answer and hang",
    "torn and exit",
    "torn and again",
    "torn and next",
    "torn and hang",
    "garbage",
)
WELL = {"answer", "slow", "twice", "for another", "exit after", "told before sent", "answer and hang", "torn and again"}


class Loop(looptime.LoopTimeEventLoop, asyncio.SelectorEventLoop):
    """asyncio's loop under virtual time."""


@dataclasses.dataclass(frozen=True)
class Life:
    """One sandbox's: how its runtimes begin, one after the other, what its events do, and when it ends."""

    inits: Sequence[str]
    events: Sequence[tuple[str, bool]]  #: behaviour; whether it is frozen before
    end: tuple[str, float]


LIVES = st.builds(
    Life,
    inits=st.lists(st.sampled_from(INITS), max_size=3),
    events=st.lists(st.tuples(st.sampled_from(BEHAVIOURS), st.booleans()), min_size=1, max_size=6),
    end=st.tuples(st.sampled_from(["stop", "vanish", "at last"]), st.floats(0, 5)),
)


class Runtimes:
    """The script: behaves as the life says."""

    def __init__(self, life: Life, driver: FakeDriver) -> None:
        self.inits = itertools.chain(life.inits, itertools.repeat("well"))
        self.driver = driver

    async def __call__(self, runtime: FakeRuntime) -> None:
        match next(self.inits):
            case "slow":
                await runtime.sleep(0.3)
            case "error":
                await runtime.init_error(b"{}")
                runtime.exit(1)
            case "error and stay":
                await runtime.init_error(b"{}")
                await runtime.hang()
            case "exit":
                runtime.exit(1)
            case "ask and exit":
                await runtime.send(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n")
                runtime.exit(1)
            case "hang":
                await runtime.hang()
        while True:
            request_id, payload = await runtime.next()
            await self.behave(runtime, request_id, json.loads(payload))

    async def behave(self, runtime: FakeRuntime, request_id: str, behaviour: str) -> None:
        path = f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nContent-Length: 2\r\n\r\n".encode()
        if behaviour.startswith("torn"):
            await runtime.send(path + b"1")
            await runtime.sleep(0.01)
            await runtime.disconnect()
        match behaviour:
            case "slow":
                await runtime.sleep(0.5)
            case "error":
                await runtime.fail(request_id, b"{}")
                return
            case "large":
                await runtime.respond(request_id, b"x" * 6_300_000)
                return
            case "for another":
                await runtime.respond("another", b"{}")
            case "next at once" | "torn and next":
                if behaviour == "next at once":
                    await runtime.next()  # the same event again
                else:
                    return
            case "exit" | "torn and exit":
                runtime.exit(1)
            case "told before sent":
                await runtime.send(path + b"{}")
                (handle,) = self.driver.handles
                handle.on_exit(ExitStatus(code=0))
                await runtime.disconnect()
                await runtime.hang()
            case "hang" | "torn and hang":
                await runtime.hang()
            case "garbage":
                await runtime.send(b"\x00\x01\x02\r\n\r\n")
                await runtime.hang()
        await runtime.respond(request_id, b"{}")
        match behaviour:
            case "twice":
                await runtime.respond(request_id, b"{}")
            case "exit after":
                runtime.exit(0)
            case "answer and hang":
                await runtime.hang()


async def live(life: Life) -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    driver = FakeDriver(lambda runtime: script(runtime))
    script = Runtimes(life, driver)
    handle = await driver.create(KEY)
    user = User(await Sandbox.open(handle, KEY, clock=LoopClock()))
    how, at_s = life.end
    ending: asyncio.Task[None] | None = None
    if how == "stop":
        ending = loop.create_task(_later(at_s, user.sandbox))
    elif how == "vanish":
        loop.call_later(at_s, handle.vanish)
    outcomes: list[tuple[str, Outcome]] = []
    gone = False
    try:
        await user.sandbox.init(SPEC, PlainLog(user.write_log))
        for behaviour, frozen in life.events:
            if frozen:
                user.sandbox.freeze()
            began = loop.time()
            settled = user.begin(work(json.dumps(behaviour).encode(), TIMEOUT_S))
            outcomes.append((behaviour, await settled))
            assert loop.time() - began <= TIMEOUT_S + 0.01, "settled by its deadline"
            if user.sandbox.state is State.BUSY:
                idle = loop.create_task(user.idle())
                await asyncio.wait({idle, ending} if ending else {idle}, return_when=asyncio.FIRST_COMPLETED)
                idle.cancel()  # who stops it is not told that it is idle
            assert loop.time() - began <= TIMEOUT_S + 0.5, "free, or gone, soon after"
    except SandboxGone:
        gone = True
    assert not gone or how != "at last", "nobody ended it"
    if ending is not None:
        await ending
    await user.sandbox.stop()
    await user.sandbox.stop()
    await asyncio.sleep(30)  # whatever is still on its way comes now

    assert user.news.count("settled") == len(outcomes)
    assert user.news.count("idle") <= len(outcomes)
    assert sum(news.startswith("gone") for news in user.news) <= 1
    for first, second in itertools.pairwise(user.news):
        assert (first, second[:4]) in {("settled", "idle"), ("settled", "gone"), ("idle", "sett"), ("idle", "gone")}
    if how == "at last":
        assert user.news.count("idle") == len(outcomes), "free after each"
        if not life.inits:
            for behaviour, outcome in outcomes:
                assert (outcome.status is Status.SUCCESS) == (behaviour in WELL | {"next at once"}), (behaviour, outcome)
    assert not driver.handles
    assert not complaints, complaints


async def _later(at_s: float, sandbox: Sandbox) -> None:
    await asyncio.sleep(at_s)
    await sandbox.stop()


@pytest.mark.slow
@settings(max_examples=200)
@given(life=LIVES)
@example(Life(inits=["exit"], events=[("answer", False)], end=("stop", 0.0)))  # stopped when its renewal was only scheduled
def test_any_life(life: Life) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(live(life), 1000))
