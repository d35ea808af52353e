"""Advanced logging controls end to end: LoggingConfig, what Python and Node.js then write, and what is kept of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.real import extensions, scripted
from tests.real.product import PYTHON, Product
from tests.unit.node.harness import needs_node, nodes

pytestmark = [pytest.mark.real, pytest.mark.slow]

IN_PYTHON = """
import logging, os
def handler(event, context):
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logging.getLogger(), level)(level)
    print("printed")
    if event: raise ValueError("told")
    return [os.environ.get("AWS_LAMBDA_LOG_FORMAT"), os.environ.get("AWS_LAMBDA_LOG_LEVEL")]
"""
IN_NODE = """
const names = {warn: 'warning', fatal: 'critical'}
exports.handler = async (event) => {
  for (const level of ['debug', 'info', 'warn', 'error', 'fatal']) console[level](names[level] ?? level)
  process.stdout.write('printed\\n')
  if (event) throw new RangeError('told')
  return [process.env.AWS_LAMBDA_LOG_FORMAT, process.env.AWS_LAMBDA_LOG_LEVEL].map((value) => value ?? null)
}
"""
LANGUAGES = [
    pytest.param({"app.py": IN_PYTHON}, PYTHON, id="python"),
    pytest.param({"app.js": IN_NODE}, list(nodes)[-1] if nodes else "", id="node", marks=needs_node),
]


def kept(product: Product, code: dict[str, str], runtime: str, event: object = None, **config: str) -> tuple[Any, list[Any]]:
    """What one invocation answers, and the entries of its log: objects, or text where they are none."""
    name = product.deploy(code, Runtime=runtime, LoggingConfig=config)
    answer = product.invoke(name, event)
    entries = [json.loads(line) if line.startswith('{"') else line for line in answer.log.splitlines()]
    return answer.value, entries


def kinds(entries: list[Any]) -> list[Any]:
    return [each if isinstance(each, str) else each.get("type") or each["message"] for each in entries]


@pytest.mark.parametrize(("code", "runtime"), LANGUAGES)
@pytest.mark.parametrize(
    ("application", "heard"),
    [
        ("TRACE", ["debug", "info", "warning", "error", "critical", "printed"]),
        ("INFO", ["info", "warning", "error", "critical", "printed"]),
        ("ERROR", ["error", "critical"]),
    ],
)
def test_levels_of_the_function(product: Product, code: dict[str, str], runtime: str, application: str, heard: list[str]) -> None:
    value, entries = kept(product, code, runtime, LogFormat="JSON", ApplicationLogLevel=application)
    assert value == ["JSON", application]
    assert kinds(entries) == ["platform.start", *heard, "platform.report"]
    for entry in entries[1:-1]:
        if isinstance(entry, dict):
            assert entry["requestId"] == entries[0]["record"]["requestId"]
            assert {"timestamp", "level"} <= set(entry)


@pytest.mark.parametrize(
    ("system", "heard"),
    [("DEBUG", ["start", "runtimeDone", "report"]), ("INFO", ["start", "report"]), ("WARN", [])],
)
def test_levels_of_the_platform(product: Product, system: str, heard: list[str]) -> None:
    _, entries = kept(
        product, {"app.py": IN_PYTHON}, PYTHON, LogFormat="JSON", SystemLogLevel=system, ApplicationLogLevel="FATAL"
    )
    assert kinds(entries) == [
        *(f"platform.{kind}" for kind in heard[:1]),
        "critical",
        *(f"platform.{kind}" for kind in heard[1:]),
    ]


@pytest.mark.parametrize(("code", "runtime"), LANGUAGES)
def test_errors_of_the_function(product: Product, code: dict[str, str], runtime: str) -> None:
    _, entries = kept(product, code, runtime, 1, LogFormat="JSON", ApplicationLogLevel="ERROR", SystemLogLevel="WARN")
    *_, error, report = entries
    told = error.get("message", error)
    assert told["errorMessage"] == "told"
    assert error["level"] == "ERROR"
    assert report["record"]["status"] == "error"


@pytest.mark.parametrize(("code", "runtime"), LANGUAGES)
def test_text_is_as_it_was_and_the_log_group_is_told(product: Product, code: dict[str, str], runtime: str) -> None:
    name = product.deploy(code, Runtime=runtime, LoggingConfig={"LogFormat": "Text", "LogGroup": "mine"})
    answer = product.invoke(name)
    assert answer.value == [None, None]
    assert answer.log.startswith("START RequestId: ")
    assert "\tinfo\n" in answer.log or "[WARNING]\t" in answer.log
    assert product.client.get_function_configuration(FunctionName=name)["LoggingConfig"]["LogGroup"] == "mine"


def events(product: Product, name: str) -> list[tuple[str, Any]]:
    """The platform's events in a function's whole log, in order, each with its record."""
    entries = [json.loads(line) for line in product.log(name) if line.startswith("{")]
    return [(entry["type"], entry["record"]) for entry in entries if str(entry.get("type")).startswith("platform.")]


INIT = {"initializationType": "on-demand", "phase": "init"}


@pytest.mark.parametrize(("code", "runtime"), LANGUAGES)
@pytest.mark.parametrize(
    ("system", "heard"),
    [
        ("DEBUG", ["initStart", "initRuntimeDone", "initReport", "start", "runtimeDone", "report"]),
        ("INFO", ["initStart", "start", "report"]),
        ("WARN", []),
    ],
)
def test_events_of_an_init_that_goes_well(
    product: Product, code: dict[str, str], runtime: str, system: str, heard: list[str]
) -> None:
    """As in a log that a user of AWS posted: DEBUG has both ends of Init."""
    config = {"LogFormat": "JSON", "SystemLogLevel": system, "ApplicationLogLevel": "FATAL"}
    name = product.deploy(code, Runtime=runtime, LoggingConfig=config)
    product.invoke(name)
    found = events(product, name)
    assert [kind for kind, _ in found] == [f"platform.{kind}" for kind in heard]
    if system == "DEBUG":
        records = dict(found)
        assert records["platform.initRuntimeDone"] == {**INIT, "status": "success"}
        duration_ms = records["platform.initReport"].pop("metrics")["durationMs"]
        assert records["platform.initReport"] == {**INIT, "status": "success"}
        assert abs(records["platform.report"]["metrics"]["initDurationMs"] - duration_ms) < 50
        done = records["platform.runtimeDone"]
        latency, duration = done["spans"]
        assert (latency["name"], duration["name"]) == ("responseLatency", "responseDuration")
        assert abs(latency["durationMs"] + duration["durationMs"] - done["metrics"]["durationMs"]) < 0.01
        assert done["metrics"]["producedBytes"] > 0


def test_events_of_an_init_that_fails(product: Product) -> None:
    """They are warnings, and come again with the Init within the invocation."""
    config = {"LogFormat": "JSON", "SystemLogLevel": "WARN"}
    name = product.deploy("import nothing_of_that_name\n", LoggingConfig=config)
    answer = product.invoke(name)
    found = events(product, name)
    assert [kind.removeprefix("platform.") for kind, _ in found] == [
        "initRuntimeDone", "initReport", "initRuntimeDone", "initReport", "report",
    ]  # fmt: skip
    failed = {"initializationType": "on-demand", "status": "error", "errorType": "Runtime.ImportModuleError"}
    for (_, record), phase in zip(found, ("init", "init", "invoke", "invoke"), strict=False):
        record.pop("metrics", None)
        assert record == {**failed, "phase": phase}
    report = found[-1][1]
    assert (report["requestId"], report["status"]) == (answer.request_id, "error")


def test_events_of_extensions(product: Product) -> None:
    """What a text log says of them is an event each, at INFO."""
    if "python" not in extensions.LANGUAGES:
        pytest.skip("no Python for extensions")
    subscribed = ("PUT", "/2022-07-01/telemetry", {"Lambda-Extension-Identifier": "ME"}, SUBSCRIPTION)
    config = {"LogFormat": "JSON", "SystemLogLevel": "DEBUG"}
    name = scripted.extension(product, IN_PYTHON, settings={"LoggingConfig": config}, after=[subscribed])
    product.invoke(name)
    found = events(product, name)
    kinds = [kind.removeprefix("platform.") for kind, _ in found]
    assert "telemetrySubscription" in kinds[1:3], "while the runtime begins, which may be done before or after"
    kinds.remove("telemetrySubscription")
    assert kinds == ["initStart", "initRuntimeDone", "extension", "initReport", "start", "runtimeDone", "report"]
    records = dict(found)
    assert records["platform.telemetrySubscription"] == {"name": "caller", "state": "Subscribed", "types": ["function"]}
    assert records["platform.extension"] == {"name": "caller", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}


SUBSCRIPTION = '{"schemaVersion":"2022-07-01","types":["function"],"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080"}}'


def test_lines_whose_level_cannot_be_read_count_as_info(product: Product) -> None:
    """AWS's rule for what a function writes: JSON objects by their `level`, everything else is INFO."""
    code = """
import json
def handler(event, context):
    for level in ("TRACE", "warn", "nonsense", 5, None):
        print(json.dumps({"level": level, "message": f"level {level}"}))
    print(json.dumps({"message": "no level"}))
    print("{no JSON")
    print("[1]")
"""
    heard = ["level warn", "level nonsense", "level 5", "level None", "no level", "{no JSON", "[1]"]
    for application, wanted in (("INFO", heard), ("WARN", heard[:1]), ("TRACE", ["level TRACE", *heard])):
        _, entries = kept(
            product, {"app.py": code}, PYTHON, LogFormat="JSON", ApplicationLogLevel=application, SystemLogLevel="WARN"
        )
        assert [entry["message"] if isinstance(entry, dict) else entry for entry in entries] == wanted


def test_levels_want_the_json_format(product: Product) -> None:
    with pytest.raises(ClientError, match=r"InvalidParameterValueException|ValidationException"):
        product.deploy(IN_PYTHON, LoggingConfig={"LogFormat": "Text", "SystemLogLevel": "DEBUG"})
