"""Advanced logging controls end to end: LoggingConfig, what Python and Node.js then write, and what is kept of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
    entries = [json.loads(line) if line.startswith("{") else line for line in answer.log.splitlines()]
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
