"""The simulator: traces as they are published, what is wrong with them, and what a comparison finds."""

from __future__ import annotations

import itertools
import json
import random
import statistics
import subprocess
import sys
import timeit
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.scheduler.commands import Command
from gateway.scheduler.keepalive.use import Use
from loadtests.__main__ import main
from loadtests.simulation import azure_shape as azure
from loadtests.simulation import speed
from loadtests.simulation.azure_shape import azure_shape, burr, rate_at
from loadtests.simulation.clairvoyant import clairvoyant
from loadtests.simulation.compare import ORDER, compared, memory_of_fixed
from loadtests.simulation.core_run import CoreRun
from loadtests.simulation.measures import Measures
from loadtests.simulation.pool_run import PoolRun
from loadtests.simulation.synthetic import KINDS, synthetic
from loadtests.simulation.trace import Function, Trace, gathered
from loadtests.simulation.versions import UNLIMITED_BYTES, Machine, policy, version

MIB = 1 << 20
ROOT = Path(__file__).parents[2]
MACHINE = Machine()


def trace_of(*calls: tuple[float, int, float], functions: int = 1, memory_mb: int = 128) -> Trace:
    return gathered("made", [Function(f"f{number}", memory_mb, memory_mb / 2) for number in range(functions)], calls)


# --- made traces


@pytest.mark.parametrize("kind", KINDS)
def test_made_traces_are_the_same_for_the_same_seed(kind: str) -> None:
    first, again, other = (synthetic(kind, seed, 20, 2) for seed in (1, 1, 2))
    assert first.time_s == again.time_s
    assert first.functions == again.functions
    assert first.time_s != other.time_s
    assert first.duration_s <= 2 * 3600 + 1


def test_the_azure_shape_is_the_published_one() -> None:
    assert rate_at(0.45) == pytest.approx(1 / 3600)
    assert rate_at(0.81) == pytest.approx(1 / 60)
    assert 100 < burr(0.5) < 170, "half of the applications never allocate more than 170 MB, on average less"
    assert 200 < burr(0.9) < 400, "and 90 % never more than 400"
    trace = azure_shape(1, functions=600, hours=24)
    calls = [0] * 600
    for _, number, _ in trace:
        calls[number] += 1
    assert sum(count <= 24 for count in calls) / 600 == pytest.approx(0.45, abs=0.08)
    assert sum(count <= 1440 for count in calls) / 600 == pytest.approx(0.81, abs=0.06)
    median_run_s = statistics.median({number: run_s for _, number, run_s in trace}.values())
    assert median_run_s == pytest.approx(0.68, rel=0.5)
    drawn = random.Random(1)
    runs_s = [drawn.lognormvariate(azure.RUN_LOG_MEAN, azure.RUN_LOG_DEVIATION) for _ in range(20_000)]
    assert sum(run_s < 1 for run_s in runs_s) / 20_000 == pytest.approx(0.5, abs=0.07), "half of the functions take less"
    assert sum(run_s < 60 for run_s in runs_s) / 20_000 == pytest.approx(0.96, abs=0.015)


@pytest.mark.slow
def test_intervals_vary_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over two weeks, as the study has it. A low limit of the rates makes it quick, and changes no coefficient of variation."""
    monkeypatch.setattr(azure, "RATE_MOST", 0.002)
    rng = random.Random(7)
    variations = []
    for _ in range(900):
        times_s = sorted(azure.arrivals(rng, 14 * azure.DAY_S))
        gaps_s = [after - before for before, after in itertools.pairwise(times_s)]
        if len(gaps_s) > 2:
            variations.append(statistics.pstdev(gaps_s) / statistics.fmean(gaps_s))
    assert sum(variation > 1 for variation in variations) / len(variations) == pytest.approx(0.4, abs=0.04)
    assert sum(variation < 0.1 for variation in variations) / len(variations) == pytest.approx(0.17, abs=0.04)


def test_the_load_comes_with_the_day() -> None:
    """Half of its peak is always there."""
    quarter = azure.DAY_S / 4
    minutes = [azure.daily(60.0 * minute) for minute in range(1440)]
    around_noon = sum(abs(time_s - 2 * quarter) < quarter / 4 for time_s in minutes)
    around_midnight = sum(min(time_s, azure.DAY_S - time_s) < quarter / 4 for time_s in minutes)
    assert around_midnight / around_noon == pytest.approx(0.5, abs=0.02)
    assert minutes == sorted(minutes)


# --- runs


def test_a_cold_start_is_one_that_had_to_be_waited_for() -> None:
    calls = [(0.0, 0, 0.1), (10.0, 0, 0.1), (1000.0, 0, 0.1)]
    fixed, lru = (CoreRun(trace_of(*calls), policy(name, UNLIMITED_BYTES), MACHINE).play() for name in ("fixed", "lru"))
    assert (fixed.cold, fixed.starts) == (2, 2)
    assert (lru.cold, lru.starts) == (1, 1)
    assert lru.wait_ms(1) == pytest.approx(257, abs=10)
    assert lru.wait_ms(0.5) == 0.0
    assert lru.wasted_byte_s == pytest.approx(64 * MIB * 1000, rel=0.01), "a frozen sandbox holds what it uses"


@pytest.mark.parametrize("run", [CoreRun, PoolRun])
def test_a_sandbox_is_there_when_the_clock_strikes(run: type[CoreRun] | type[PoolRun]) -> None:
    """Between its beats others need the memory."""
    calls = [(600.0 * beat, 0, 0.1) for beat in range(40)]
    calls += [(7.0 + 31 * number, 1 + number % 40, 0.1) for number in range(770)]
    trace = trace_of(*calls, functions=41)
    worth, lru = (run(trace, policy(name, 20 * 64 * MIB), MACHINE).play() for name in ("worth", "lru"))
    assert worth.prewarms > 25
    assert worth.cold < lru.cold - 30, "the clock's, all but the first few"


def test_core_and_pool_come_to_the_same() -> None:
    trace = azure_shape(100, functions=30, hours=3)
    memory_bytes = memory_of_fixed(trace, MACHINE)
    for name in ("fixed", "lru"):
        core, pool = (run(trace, policy(name, memory_bytes), MACHINE).play() for run in (CoreRun, PoolRun))
        assert pool.invocations == core.invocations == len(trace)
        assert pool.cold == pytest.approx(core.cold, rel=0.05, abs=2)
        assert pool.wasted_byte_s == pytest.approx(core.wasted_byte_s, rel=0.1)


def test_functions_larger_than_the_machine_are_refused_and_the_others_served() -> None:
    functions = [Function("huge", 4096, 4096), Function("small", 128, 64)]
    calls = [(float(number), number % 2, 0.1) for number in range(100)]
    for run in (CoreRun, PoolRun):
        measures = run(gathered("made", functions, calls), policy("worth", 1024 * MIB), MACHINE).play()
        assert measures.refused == 50
        assert measures.cold == 1


def test_nobody_is_below_the_bound_but_who_starts_ahead() -> None:
    for kind in ("azure", "heavy-tailed", "once"):
        trace = synthetic(kind, 100, 40, 3)
        memory_bytes = memory_of_fixed(trace, MACHINE) // 2
        bound = clairvoyant(trace, memory_bytes)
        for measures in compared(trace, memory_bytes, MACHINE, ("fixed", "lru", "greedy-dual")):
            assert bound.cold <= measures.cold + measures.refused, (kind, measures.policy)
        assert clairvoyant(trace, 1 << 50).cold == len({number for _, number, _ in trace}), "with all memory, first calls only"


def test_percentiles_count_those_who_did_not_wait() -> None:
    measures = Measures("made", 0, invocations=1000)
    measures.waits_s.extend([0.25] * 15 + [1.0] * 5)
    assert (measures.wait_ms(0.5), measures.wait_ms(0.985), measures.wait_ms(0.999)) == (0.0, 250.0, 1000.0)


def beside_rare_ones(calls: list[tuple[float, int, float]]) -> Trace:
    """What f0 is called for, and forty functions that are called every half an hour, for four hours."""
    rng = random.Random(1)
    rare = [(rng.random() * 14_400, number, 0.1) for number in range(1, 41) for _ in range(8)]
    return trace_of(*sorted([*calls, *rare]), functions=41)


def test_a_clock_that_is_called_between_its_beats_is_kept() -> None:
    """Who only looks at the clock starts it for each beat, and again for each call in between."""
    rng = random.Random(2)
    clock = [(300.0 * beat, 0, 0.1) for beat in range(48)]
    trace = beside_rare_ones([*clock, *((rng.random() * 14_400, 0, 0.1) for _ in range(40))])
    lru, worth = compared(trace, 1024 * MIB, MACHINE, ("lru", "worth"))
    assert worth.missed < 1.07 * lru.missed, "the rare ones are all alike, so nothing beats lru here"
    assert worth.prewarms < 10


def test_each_of_many_sandboxes_of_a_function_is_kept_for_its_own_use() -> None:
    """Twenty are always at work, five more now and then: for those it does not matter that the eighth was never idle."""
    steady = [(30.0 * beat + number, 0, 45.0) for beat in range(480) for number in range(14)]
    wave = [(240.0 * beat + number, 0, 20.0) for beat in range(60) for number in range(6)]
    trace = beside_rare_ones([*steady, *wave])
    lru, worth = compared(trace, 5 * 1024 * MIB, MACHINE, ("lru", "worth"))
    assert worth.missed < 1.15 * lru.missed, "the rare ones are all alike, so nothing beats lru here"


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [10, 11])
def test_worth_has_half_the_cold_starts_of_the_fixed_time(seed: int) -> None:
    """The bar, on two seeds that nothing was tuned on; ten others are in loadtests/KEEP-ALIVE.md."""
    trace = azure_shape(seed, functions=100, hours=8)
    memory_bytes = memory_of_fixed(trace, MACHINE)
    cold = {measures.policy: measures.cold for measures in compared(trace, memory_bytes, MACHINE)}
    assert set(cold) == set(ORDER)
    assert cold["worth"] <= 0.5 * cold["fixed"]
    assert cold["worth"] < cold["hybrid"]
    assert cold["worth"] < cold["greedy-dual"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["fixed", "worth", "hybrid"])
def test_functions_called_once_each_leave_next_to_nothing(name: str) -> None:
    """A million would take some minutes; what is kept of them is bounded by the memory, so these show it."""
    count, memory_bytes = 10_000, 1 << 30
    functions = [Function(f"f{number}", 128, 60) for number in range(count)]
    trace = gathered("once", functions, ((0.1 * number, number, 0.05) for number in range(count)))
    run = CoreRun(trace, policy(name, memory_bytes), MACHINE)
    measures = run.play()
    assert (measures.cold, measures.refused) == (count, 0)
    assert len(run.core.groups) <= memory_bytes // (60 * MIB) + 1
    assert len(run.core.admission.shares) <= len(run.core.groups)


@pytest.mark.parametrize("run", [CoreRun, PoolRun])
def test_a_clock_that_jumps_by_years_is_no_work(run: type[CoreRun] | type[PoolRun]) -> None:
    calls = [(float(number), 0, 0.1) for number in range(5)] + [(9 * 365 * 86_400.0 + number, 0, 0.1) for number in range(5)]
    measures = run(trace_of(*calls), policy("worth", 1 << 30), MACHINE).play()
    assert (measures.invocations, measures.cold, measures.refused) == (10, 2, 0)


def test_a_machine_that_is_full_for_long_is_seldom_asked() -> None:
    """One call works for ten minutes on all memory; another waits for it. That is not looked at a hundred times a second."""
    functions = [Function("long", 512, 400), Function("waits", 512, 400)]
    run = CoreRun(
        gathered("full", functions, [(0.0, 0, 600.0), (1.0, 1, 0.1), (70.0, 0, 0.1)]), policy("worth", 520 * MIB), MACHINE
    )
    ticks = 0
    tick = run.core.tick

    def counted(now: float) -> Sequence[Command]:
        nonlocal ticks
        ticks += 1
        return tick(now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.core, "tick", counted)
        measures = run.play()
    assert measures.refused == 2, "after a minute, each"
    assert ticks < 1000


@pytest.mark.bench
@pytest.mark.timeout(300)
def test_it_is_quick() -> None:
    """In time of the processor, so that others who use it count less."""
    found = speed.measure()
    assert found.core >= 30_000, found
    assert found.pool >= 8_000, found


@pytest.mark.bench
def test_what_is_learned_costs_little() -> None:
    """Of an invocation of a function that is called all the time: two calls."""
    use = Use(version(Function("f", 128, 64)), 0.0)
    use.used(1, 0.0)
    use.freed(1, 0.0)

    def call() -> None:
        use.used(1, 0.5)
        use.freed(1, 0.5)

    assert min(timeit.repeat(call, number=10_000, repeat=20)) / 10_000 < 0.5e-6


# --- the command


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_command_compares_and_draws(tmp_path: Path) -> None:
    drawn = tmp_path / "plot.svg"
    arguments = ["simulate", "--trace", "poisson", "--functions", "10", "--hours", "1", "--memory-share", "0.5"]
    # A process of its own: matplotlib keeps its fonts open.
    command = [sys.executable, "-m", "loadtests", *arguments, "--memory-share", "1", "--seeds", "2", "--plot", str(drawn)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert "poisson: 10 functions" in output
    for name in (*ORDER, "clairvoyant"):
        assert output.count(f"\n{name} ") == 2
    assert drawn.read_text().startswith("<?xml")


def test_the_command_speaks_json() -> None:
    arguments = ["simulate", "--trace", "poisson", "--functions", "10", "--hours", "1"]
    found = json.loads(CliRunner().invoke(main, [*arguments, "--policy", "worth", "--json"]).stdout)
    assert [one["policy"] for one in found[0]["policies"]] == ["worth", "clairvoyant"]
    assert found[0]["policies"][0]["invocations"] == found[0]["invocations"]


@pytest.mark.parametrize("options", [[], ["--pool"]])
def test_ctrl_c_ends_it_in_a_word(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: CoreRun | PoolRun, call: object, *rest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CoreRun, "_begun", interrupted)
    monkeypatch.setattr(PoolRun, "begun", interrupted)
    arguments = ["simulate", "--trace", "poisson", "--functions", "5", "--hours", "1", "--memory-mb", "1024"]
    result = CliRunner().invoke(main, [*arguments, *options])
    assert result.exit_code in (1, 130), "as this click has it"
    assert result.output.strip() in ("", "Aborted!")


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.write_text("f,1\nf,x\n")
    result = CliRunner().invoke(main, ["simulate", "--trace", str(path)])
    assert result.exit_code == 1
    assert f"{path}, line 2: time_ms is 'x'" in result.output
