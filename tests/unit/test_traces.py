"""Traces from files: what is read of each format, and what is said of a file that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.simulation.azure_2019 import COUNTS, DURATIONS, MEMORY, MINUTES, azure_2019
from loadtests.simulation.azure_2021 import azure_2021
from loadtests.simulation.simple_csv import simple_csv
from loadtests.simulation.sources import traces
from loadtests.simulation.trace import DAY_S, MOST, Function, TraceError, gathered


def counts_file(directory: Path, rows: dict[str, dict[int, str]], trigger: str = "http") -> Path:
    path = directory / f"{COUNTS}d01.csv"
    header = "HashOwner,HashApp,HashFunction,Trigger," + ",".join(str(minute + 1) for minute in range(MINUTES))
    lines = [
        f"o,a,{name},{trigger}," + ",".join(counts.get(minute, "0") for minute in range(MINUTES)) for name, counts in rows.items()
    ]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_azure_2019_as_it_is_published(tmp_path: Path) -> None:
    path = counts_file(tmp_path, {"first": {0: "2", 61: "3"}, "second": {30: "1"}})
    (tmp_path / f"{DURATIONS}d01.csv").write_text(
        "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1,"
        "percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100\n"
        "o,a,first,100,5,100,200,100,100,100,150,200,200,200\n"
    )
    (tmp_path / f"{MEMORY}d01.csv").write_text(
        "HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1\no,a,10,333.5,300\n"
    )
    trace = azure_2019(path)
    assert len(trace) == 6
    assert [function.used_mb for function in trace.functions] == [333.5, 333.5], "by application"
    assert trace.functions[0].memory_mb == 333
    assert list(trace.time_s) == sorted(trace.time_s)
    assert all(0.1 <= run_s <= 0.2 for _, number, run_s in trace if number == 0)
    assert [run_s for _, number, run_s in trace if number == 1] == [0.5], "it has no durations"
    assert len(azure_2019(path, functions=1)) == 5
    assert len(azure_2019(path, hours=1)) == 3


def test_timers_of_2019_come_at_the_same_second(tmp_path: Path) -> None:
    trace = azure_2019(counts_file(tmp_path, {"t": dict.fromkeys(range(0, 60, 5), "1")}, trigger="timer"))
    gaps = [after - before for before, after in zip(trace.time_s, trace.time_s[1:], strict=False)]
    assert gaps == pytest.approx([300.0] * 11)


def test_azure_2021_as_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("app,func,end_timestamp,duration\naa,ff,5160.5,0.5\nbb,ff,5161.28,0.013\naa,ff,5150.0,42.356\n")
    trace = azure_2021(path)
    assert len(trace.functions) == 2, "a function is unique within its application only"
    assert [round(run_s, 3) for _, _, run_s in trace] == [42.356, 0.5, 0.013], "in the order of their beginnings"
    assert trace.time_s[1] == pytest.approx(5160 - (5150 - 42.356))
    assert traces(str(path), range(1), None, None)[0].time_s == trace.time_s, "it is known by its first line"


def test_simple_lines_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.write_text("b,2000\na,1000\na,500\n")
    trace = simple_csv(path)
    assert list(trace.time_s) == [0.0, 0.5, 1.5]
    path.write_text("function,time_ms,memory_mb,run_ms\nb,2000,512,50\na,-1000,64,1\n")
    trace = simple_csv(path)
    assert list(trace.time_s) == [0.0, 3.0]
    assert list(trace.run_s) == [0.001, 0.05]
    assert trace.functions[0] == Function("b", 512, 512)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("function,time_ms\n", "there is no invocation in it"),
        ("f,1\nf\n", "line 2: 1 fields where 2 are needed"),
        ("f,1\n\ng,never\n", "line 3: time_ms is 'never', which is not a number"),
        ("f,nan\n", "line 1: time_ms is 'nan', which is not a number"),
        ("f,1e999\n", "line 1: time_ms is '1e999', which is not a number"),
        (",5\n", "line 1: function is ''"),
        ("function,time_ms,run_ms\nf,1,-5\n", "line 2: run_ms is -5, which is less than 0"),
        ("function,time_ms,memory_mb\nf,1,0\n", "line 2: memory_mb is 0, which is less than 1"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "calls.csv"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        traces(str(path), range(1), None, None)
    assert words in str(caught.value)
    assert str(path) in str(caught.value) or path.name in str(caught.value)


def test_what_is_wrong_with_azure_files(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="line 2: minute 8 is 'x', which is not a number"):
        azure_2019(counts_file(tmp_path, {"f": {7: "x"}}))
    with pytest.raises(TraceError, match=r"line 3: minute 3 is 1\.5, which is not a whole number"):
        azure_2019(counts_file(tmp_path, {"e": {}, "f": {2: "1.5"}}))
    with pytest.raises(TraceError, match="minute 1 is -1, which is less than 0"):
        azure_2019(counts_file(tmp_path, {"f": {0: "-1"}}))
    other = tmp_path / "other.csv"
    other.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(TraceError, match="no text in UTF-8"):
        traces(str(other), range(1), None, None)
    with pytest.raises(TraceError, match="neither a file nor one of azure, poisson"):
        traces("nothing.csv", range(1), None, None)
    bad = tmp_path / f"{COUNTS}d02.csv"
    bad.write_text("HashOwner,HashApp,Trigger,1\n")
    with pytest.raises(TraceError, match="line 1: there is no column HashFunction"):
        azure_2019(bad, hours=0.1)


DURATION_COLUMNS = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum," + ",".join(
    f"percentile_Average_{share}" for share in (0, 1, 25, 50, 75, 99, 100)
)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            DURATIONS,
            "HashOwner,HashApp,HashFunction,Average\n",
            "line 1: there is no column percentile_Average_0; it has HashOwner",
        ),
        (DURATIONS, f"{DURATION_COLUMNS}\no,a,f,1,1,1,1,1,1,1,1,1,1\n", "line 2: 13 fields where 14 are needed"),
        (DURATIONS, f"{DURATION_COLUMNS}\no,a,f,1,1,1,1,1,1,1,nan,1,1,1\n", "line 2: percentile_Average_50 is 'nan'"),
        (DURATIONS, "", "the file is empty"),
        (MEMORY, "HashOwner,HashApp,SampleCount\no,a,1\n", "line 1: there is no column AverageAllocatedMb"),
        (
            MEMORY,
            "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,1,-3\n",
            "line 2: AverageAllocatedMb is -3, which is less",
        ),
        (MEMORY, "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,1,much\n", "line 2: AverageAllocatedMb is 'much'"),
        (MEMORY, '"HashOwner', "line 1: there is no column HashApp"),
    ],
)
def test_what_is_wrong_with_the_files_beside_the_counts(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = counts_file(tmp_path, {"f": {0: "1"}})
    (tmp_path / f"{name}d01.csv").write_text(text)
    with pytest.raises(TraceError) as caught:
        azure_2019(path)
    assert str(caught.value).startswith(str(tmp_path / f"{name}d01.csv"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        ("1e300", "minute 1 is 1e300, which is more than 20,000,000"),
        ("inf", "minute 1 is 'inf', which is not a number"),
        ("", "minute 1 is '', which is not a number"),
        ("1_0", "minute 1 is '1_0', which is not a number"),
    ],
)
def test_counts_that_cannot_be(tmp_path: Path, count: str, words: str) -> None:
    with pytest.raises(TraceError) as caught:
        azure_2019(counts_file(tmp_path, {"f": {0: count}}))
    assert words in str(caught.value)


def test_counts_that_end_in_the_middle(tmp_path: Path) -> None:
    path = counts_file(tmp_path, {"f": {0: "1"}})
    path.write_text(path.read_text()[:-1000])
    with pytest.raises(TraceError, match=r"line 2: \d+ fields where 1444 are needed"):
        azure_2019(path)
    assert len(azure_2019(path, hours=0.5)) == 1, "what is needed of it is there"


def test_a_day_without_calls_and_one_of_another_name(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="there is no invocation in it"):
        azure_2019(counts_file(tmp_path, {"f": {}, "g": {}}))
    other = tmp_path / "counts.csv"
    other.write_text("HashOwner\n")
    with pytest.raises(TraceError, match="the name of a file of counts begins with invocations_per_function_md"):
        azure_2019(other)


def test_odd_but_published_durations_are_taken(tmp_path: Path) -> None:
    """-1 where nothing was recorded, and a function twice: both are in the published files."""
    path = counts_file(tmp_path, {"f": {0: "50"}})
    (tmp_path / f"{DURATIONS}d01.csv").write_text(f"{DURATION_COLUMNS}\n" + "o,a,f,1,1,-1,-1,-1,-1,5,5,5,9,9\n" * 2)
    assert all(0.001 <= run_s <= 0.009 for run_s in azure_2019(path).run_s)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app,func,end_timestamp\na,f,1\n", "line 1: there is no column duration; it has app, func, end_timestamp"),
        ("app,func,end_timestamp,duration\na,f,5\n", "line 2: 3 fields where 4 are needed"),
        ("app,func,end_timestamp,duration\na,f,5,-1\n", "line 2: duration is -1, which is less than 0"),
        ("app,func,end_timestamp,duration\na,f,nan,1\n", "line 2: end_timestamp is 'nan', which is not a number"),
        ("app,func,end_timestamp,duration\na,f,5,1\n\na,f,yesterday,1\n", "line 4: end_timestamp is 'yesterday'"),
        ("app,func,end_timestamp,duration\n", "there is no invocation in it"),
    ],
)
def test_what_is_wrong_with_lines_of_2021(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        traces(str(path), range(1), None, None)
    assert words in str(caught.value)
    assert path.name in str(caught.value)


def test_a_clock_that_jumped_is_told(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.write_text("early,0\nlate,1700000000000\n")
    with pytest.raises(
        TraceError, match=r"19,676 days from the first call, of early, to the last, of late; .* Did a clock jump\?"
    ):
        simple_csv(path)
    path.write_text(f"f,{-1000 * DAY_S * 1000:.0f}\nf,{1000 * DAY_S * 1000:.0f}\n")
    assert simple_csv(path).duration_s == 2000 * DAY_S, "years are none of our business"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'"f,1\ng,2\n', "1 fields where 2 are needed"),
        (b"f,1\n" + b"g" * 200_000 + b",2\n", "line 2: field larger than field limit"),
        (b"f" * 300 + b",1\n", "line 1: function is 'ffff"),
        (b"f;1\n", "line 1: 1 fields where 2 are needed"),
        (b"function,timestamp\nf,1\n", "line 1: time_ms is 'timestamp', which is not a number"),
        (b"f,12:30:00\n", "line 1: time_ms is '12:30:00', which is not a number"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "calls.csv"
    path.write_bytes(data)
    with pytest.raises(TraceError) as caught:
        traces(str(path), range(1), None, None)
    assert words in str(caught.value)


def test_line_ends_and_marks_of_other_systems(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.write_bytes("\ufefffunction,time_ms\r\na,1000\r\n\r\nb,2000\r\n".encode())
    trace = traces(str(path), range(1), None, None)[0]
    assert [one.name for one in trace.functions] == ["a", "b"]
    assert list(trace.time_s) == [0.0, 1.0]


def test_no_more_than_can_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.simulation.trace.MOST", 100)
    calls = [(float(number), 0, 0.1) for number in range(101)]
    with pytest.raises(TraceError, match="more than 100 invocations; take part of it with --functions or --hours"):
        gathered("many", [Function("f", 128, 64)], calls)
    assert len(gathered("enough", [Function("f", 128, 64)], calls[:100])) == 100
    assert MOST >= 10_000_000
