"""How the benchmarks read what they measure: a wrong reading would look like a fast machine."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from gateway.cli.bench.load import Target, parse_wrk, percentile
from gateway.cli.bench.report import Figure, show
from gateway.cli.bench.telemetry import Run, figures

# As wrk 4.1.0 of Debian 12 prints it.
WRK = """Running 3s test @ http://127.0.0.1:9310/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.53ms    2.10ms  33.88ms   94.02%
    Req/Sec     7.02k     2.00k   10.52k    73.33%
  Latency Distribution
     50%  276.00us
     75%    2.66ms
     90%    3.64ms
     99%    1.20s
  20956 requests in 3.00s, 7.89MB read
Requests/sec:   6982.20
Transfer/sec:      2.63MB
"""


def test_what_wrk_prints() -> None:
    assert parse_wrk(WRK) == (6982.20, 0.276, 1200.0, 20956)


def test_what_wrk_never_printed() -> None:
    with pytest.raises(click.ClickException, match="cannot read what wrk printed"):
        parse_wrk("unable to connect to 127.0.0.1:9310 Connection refused\n")


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_were_measured(share: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == value


def test_percentile_of_few() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([1.0], 0.5) == 1.0


def test_requests_go_to_the_gateway_whatever_the_url_s_host() -> None:
    by_host = Target.of("http://abc.lambda-url.us-east-1.localhost:9000/", "http://127.0.0.1:9000")
    assert by_host == ("127.0.0.1", 9000, "/", "abc.lambda-url.us-east-1.localhost:9000")
    by_path = Target.of("http://127.0.0.1:9000/_urls/abc/", "http://127.0.0.1:9000")
    assert by_path.request == b"GET /_urls/abc/ HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n"


def run(*figures: Figure, as_json: bool = False, check: bool = False) -> tuple[int, str, str]:
    @click.command()
    def command() -> None:
        show("warm", figures, as_json=as_json, check=check, isolation="namespaces")

    result = CliRunner().invoke(command)
    return result.exit_code, result.stdout, result.stderr


GOOD = Figure(name="ratio", value=0.5, unit="×", least=0.35)
BAD = Figure(name="thaw adds", value=0.4, unit="ms", most=0.3)


def test_bars_are_asserted_only_when_asked_for() -> None:
    assert run(GOOD, BAD)[0] == 0
    assert run(GOOD, check=True)[0] == 0
    code, _, said = run(GOOD, BAD, check=True)
    assert (code, said) == (1, "lambent: thaw adds: 0.4 ms, wanted ≤ 0.3\n")


def test_table_says_what_passed() -> None:
    table = run(GOOD, BAD)[1]
    assert [line.split()[-1] for line in table.splitlines() if line.lstrip().startswith(("ratio", "thaw"))] == ["ok", "missed"]


def test_json_has_all_there_is_to_know() -> None:
    document = json.loads(run(GOOD, BAD, as_json=True)[1])
    assert document["isolation"] == "namespaces"
    assert [(figure["name"], figure["value"], figure["good"]) for figure in document["figures"]] == [
        ("ratio", 0.5, True),
        ("thaw adds", 0.4, False),
    ]


def test_what_telemetry_costs_is_what_it_costs_most_pairs() -> None:
    """One pair met other work on the machine; a request that takes 100 us instead of 95 costs 5 % of throughput."""
    off = [Run(10_000, 95), Run(10_000, 95), Run(1_000, 300)]
    on = [Run(9_500, 100), Run(9_500, 100), Run(9_500, 100)]
    found = {figure.name.strip(): figure for figure in figures(off, on)}
    held = found["telemetry costs of throughput, by that"]
    assert held.value == pytest.approx(5)
    assert (held.most, held.good) == (10, True)
    assert found["telemetry costs, by the clock"].value == pytest.approx(5)
