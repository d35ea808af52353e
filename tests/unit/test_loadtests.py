"""The open-loop generator on virtual time, against servers whose behaviour is known, so that its figures must be too."""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import Callable

import pytest

from loadtests.knee import Bar, Search, conclusion, sweep
from loadtests.latencies import Latencies
from loadtests.open_loop import NO_ANSWER, Outcome, generate
from loadtests.report import page, values
from tests.simloop import simulate


class Virtual:
    """The loop's time as a Timer."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def until(self, when_s: float) -> None:
        await asyncio.sleep(when_s - self.now())


class Server:
    """Answers one request after the other, each in `takes_s`, and none before it has got up at `up_at_s`; what `connections`
    cannot carry must wait outside. `says` is its answer to request number n; "" for none at all."""

    def __init__(
        self, takes_s: float, connections: int = 1000, up_at_s: float = 0, says: Callable[[int], str | None] = lambda _: None
    ) -> None:
        self.freed: Callable[[], None] = lambda: None
        self.sent_at_s: deque[float] = deque()
        self.under_way = 0
        self._takes_s = takes_s
        self._connections = connections
        self._idle_at_s = up_at_s
        self._says = says

    def send(self, answered: Callable[[str | None], None]) -> bool:
        if self.under_way == self._connections:
            return False
        loop = asyncio.get_running_loop()
        self.under_way += 1
        self.sent_at_s.append(loop.time())
        self._idle_at_s = max(self._idle_at_s, loop.time()) + self._takes_s
        reason = self._says(len(self.sent_at_s))
        if reason != "":
            loop.call_at(self._idle_at_s, self._answer, answered, reason)
        return True

    def _answer(self, answered: Callable[[str | None], None], reason: str | None) -> None:
        self.under_way -= 1
        answered(reason)
        self.freed()


def generated(server: Server, rate_per_s: float, seconds: float) -> Outcome:
    return simulate(generate(server, Virtual(), rate_per_s, seconds), 1)


def test_a_constant_rate() -> None:
    server = Server(0.001)
    outcome = generated(server, 100, 2)
    gaps = [later - earlier for earlier, later in zip(list(server.sent_at_s)[:-1], list(server.sent_at_s)[1:], strict=True)]
    assert (outcome.requests, outcome.right, len(gaps)) == (200, 200, 199)
    assert gaps == pytest.approx([0.01] * 199)
    assert outcome.latency.ms(0.5) == pytest.approx(1, rel=0.01)
    assert outcome.latency.max_ms == pytest.approx(1, rel=0.01)
    assert outcome.right_per_s == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("connections", [1, 1000])
def test_a_stall_is_in_the_latency_of_all_that_it_delayed(connections: int) -> None:
    """A client that waits for its answer would have sent one request during the second and found the rest quick."""
    outcome = generated(Server(0.001, connections, up_at_s=1001.01), 100, 2)
    assert outcome.right == 200
    assert outcome.latency.max_ms == pytest.approx(1001, rel=0.01)
    # Request i was meant for 10 i ms and is answered at 1001 + i, until the server has caught up after 111 of them.
    assert outcome.latency.ms(0.75) == pytest.approx(1001 - 9 * 50, rel=0.02)
    assert outcome.latency.ms(0.5) == pytest.approx(1001 - 9 * 100, rel=0.1)
    assert outcome.latency.ms(0.4) == pytest.approx(1, rel=0.01)


def test_a_server_that_is_too_slow_falls_behind_without_end() -> None:
    outcome = generated(Server(0.02, connections=4), 100, 2)
    assert outcome.right == 200
    assert outcome.latency.max_ms == pytest.approx(2000, rel=0.02)
    assert outcome.right_per_s == pytest.approx(50, rel=0.02)
    assert outcome.lag.max_ms == pytest.approx(0.001), "the server's slowness is no lag of the generator"


def test_failures_by_reason_and_what_has_no_answer() -> None:
    answers = {1: "status 429", 2: "status 429", 3: "wrong answer", 4: ""}
    outcome = generated(Server(0.001, says=answers.get), 10, 1)
    assert outcome.right == 6
    assert outcome.failures == {"status 429": 2, "wrong answer": 1, NO_ANSWER: 1}
    assert outcome.failed_share == pytest.approx(0.4)
    assert outcome.latency.count == 10
    assert outcome.latency.max_ms >= 5000, "it counts with its age, as it may not be left out"
    assert "2 × status 429" in page(outcome)
    assert values(outcome)["failures"] == outcome.failures


@pytest.mark.parametrize("capacity_per_s", [300, 1000])
def test_the_knee_of_a_server_whose_capacity_is_known(capacity_per_s: int) -> None:
    search, bar, steps = Search(100, 50_000), Bar(50), list[Outcome]()

    async def find() -> Outcome | None:
        timer = Virtual()
        return await sweep(
            lambda rate_per_s: generate(Server(1 / capacity_per_s), timer, rate_per_s, 1),
            search,
            bar,
            lambda outcome, _: steps.append(outcome),
        )

    best = simulate(find(), 1)
    assert search.knee_per_s == pytest.approx(capacity_per_s, rel=0.1)
    assert best is not None
    assert best.rate_per_s == search.knee_per_s
    assert conclusion(search, bar, steps).startswith(f"The knee is at {search.knee_per_s:,.0f}/s; ")


def test_one_stall_is_not_a_knee() -> None:
    servers = iter([Server(0.001, up_at_s=1003), *(Server(0.001) for _ in range(5))])
    search, told = Search(100, 200), list[tuple[float, bool]]()

    async def find() -> None:
        timer = Virtual()
        await sweep(
            lambda rate_per_s: generate(next(servers), timer, rate_per_s, 1),
            search,
            Bar(),
            lambda outcome, kept: told.append((outcome.rate_per_s, kept)),
        )

    simulate(find(), 1)
    assert told == [(100, False), (100, True), (200, True)]
    assert conclusion(search, Bar(), []) == "It kept up with 200/s, where the search ended."


def test_a_search_that_fails_at_once() -> None:
    search = Search(100, 50_000)
    search.tell(False)
    assert search.rate_per_s is None
    assert conclusion(search, Bar(), []) == "Not even 100/s kept up (p99 within 50 ms, 99.9% right)."


def test_a_generator_that_is_late_says_so() -> None:
    search, late = Search(100, 50_000), Outcome(100, 1)
    late.latency.record(0.2)
    late.lag.record(0.15)
    search.tell(False)
    assert "the limit may be its own" in conclusion(search, Bar(), [late])
    assert "150.0 ms (p99) late" in page(late)


def test_latencies_keep_three_digits_and_their_ends() -> None:
    latencies = Latencies()
    assert (latencies.count, latencies.ms(0.99), latencies.max_ms) == (0, 0, 0)
    for milliseconds in range(1, 1001):
        latencies.record(milliseconds / 1000)
    assert latencies.ms(0.5) == pytest.approx(500, rel=0.001)
    assert latencies.ms(0.999) == pytest.approx(999, rel=0.001)
    latencies.record(0)
    latencies.record(1e9)
    assert latencies.max_ms == pytest.approx(3_600_000, rel=0.001)
    out = io.BytesIO()
    latencies.write(out)
    assert b"Percentile" in out.getvalue()
    assert b"TotalCount     =     1002" in out.getvalue()
