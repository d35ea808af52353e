"""Each reason for a 429, as the caller gets it: AWS's word for it, and in Retry-After when it is worth trying again."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import orjson
import pytest

from gateway.edge import render
from gateway.errors import ApiError
from gateway.scheduler.policy import MIB, Policy
from sandbox.testing import Behaviour, Run
from tests.sim.records import function, version
from tests.sim.world import POLICY, World
from tests.simloop import simulate

ACCOUNT = "ConcurrentInvocationLimitExceeded"
RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"
RATE = "FunctionInvocationRateLimitExceeded"
RESERVED_RATE = "ReservedFunctionInvocationRateLimitExceeded"
LONG_S = 2.0


def policy(**changes: Any) -> Policy:
    return Policy(**{**dataclasses.asdict(POLICY), **changes})


@pytest.mark.parametrize(
    ("settings", "reserved", "calls", "reason", "retry_after"),
    [
        (policy(concurrency=2), None, 3, ACCOUNT, "1"),
        (policy(concurrency=9), 2, 3, RESERVED, "1"),
        (policy(concurrency=9), 0, 1, RESERVED, None),  # switched off: nobody knows when that ends
        (policy(concurrency=5, request_rate=0.4), None, 4, RATE, "1"),
        (policy(concurrency=9, request_rate=0.2), 5, 2, RESERVED_RATE, "1"),
        (policy(scaling_rate=2), None, 3, RATE, "3"),
        (policy(memory_bytes=128 * MIB, stems_min=0, stems_max=0, queue_max_per_key=1), None, 3, ACCOUNT, "1"),
        (policy(memory_bytes=128 * MIB, stems_min=0, stems_max=0, queue_max=1), None, 3, ACCOUNT, "1"),
    ],
    ids=["account", "reserved", "off", "rate", "reserved rate", "scaling", "line of the function full", "all lines full"],
)
def test_a_429_says_why_and_when_to_come_again(
    settings: Policy, reserved: int | None, calls: int, reason: str, retry_after: str | None
) -> None:
    async def play() -> None:
        world = World(
            [function(version(), reserved_concurrency=reserved), function(version("other"))],
            behaviour=Behaviour(init_s=0.02, run=lambda work: Run(run_s=LONG_S)),
            policy=settings,
        )
        await asyncio.sleep(1)
        begun = []
        for _ in range(calls - 1):
            begun.append(world.begin())
            await asyncio.sleep(0.2)  # each has its sandbox, or waits
        refused_s = world.loop.time()
        with pytest.raises(ApiError) as caught:
            await world.invoke()
        assert world.loop.time() == refused_s, "at once"
        error = caught.value
        headers = render.error_headers(error, "an-id")
        assert (error.status, headers["x-amzn-ErrorType"]) == (429, "TooManyRequestsException")
        assert orjson.loads(render.error_body(error)) == {"Reason": reason, "Type": "User", "message": "Rate Exceeded."}
        assert headers.get("Retry-After") == retry_after
        if retry_after is not None:
            await asyncio.gather(*begun)
            await asyncio.sleep(int(retry_after))
            await world.invoke()
        await world.close()

    simulate(play(), 0)


def test_what_is_reserved_is_neither_taken_from_nor_given_to_others() -> None:
    async def play() -> None:
        world = World(
            [function(version("mine"), reserved_concurrency=2), function(version("other"))],
            behaviour=Behaviour(run=lambda work: Run(run_s=LONG_S)),
            policy=policy(concurrency=5),
        )
        await asyncio.sleep(1)
        found = await asyncio.gather(world.burst(9, "mine"), world.burst(9, "other"))
        assert [sum(not isinstance(one, BaseException) for one in results) for results in found] == [2, 3]
        await world.close()

    simulate(play(), 0)
