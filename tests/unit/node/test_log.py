"""console.* in the Node.js runtime: AWS's line in text, its objects in JSON, and the least level."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node.harness import needs_node, running

pytestmark = [pytest.mark.slow, needs_node]

EVERY_LEVEL = """
console.log('at init')
exports.handler = async () => {
  console.trace('t'); console.debug('d'); console.info('i %d', 5); console.log('l', {a: 1}); console.warn('w')
  console.error('e'); console.fatal('f'); console.log('two\\nlines'); console.log(); process.stdout.write('raw\\n')
}
"""
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def logged(tmp_path: Path, code: str, **variables: str) -> str:
    with running(tmp_path, code, **variables) as function:
        function.invoke()
        function.asks_next()
        return function.log()


def test_text(tmp_path: Path) -> None:
    text = re.sub(TIME, "TIME", logged(tmp_path, EVERY_LEVEL))
    assert text == (
        "TIME\tundefined\tINFO\tat init\n"
        "TIME\tid-1\tTRACE\tt\nTIME\tid-1\tDEBUG\td\nTIME\tid-1\tINFO\ti 5\nTIME\tid-1\tINFO\tl { a: 1 }\nTIME\tid-1\tWARN\tw\n"
        "TIME\tid-1\tERROR\te\nTIME\tid-1\tFATAL\tf\nTIME\tid-1\tINFO\ttwo\nlines\nTIME\tid-1\tINFO\tundefined\nraw\n"
    )


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("TRACE", "tdilwef"),
        ("debug", "dilwef"),
        ("INFO", "ilwef"),
        ("WARN", "wef"),
        ("ERROR", "ef"),
        ("FATAL", "f"),
        ("?", "tdilwef"),
    ],
)
def test_levels(level: str, heard: str, tmp_path: Path) -> None:
    code = "exports.handler = async () => { " + "; ".join(
        f"console.{method}('{method[0]}')" for method in ("trace", "debug", "info", "log", "warn", "error", "fatal")
    )
    lines = logged(tmp_path, code + " }", AWS_LAMBDA_LOG_LEVEL=level).splitlines()
    assert "".join(line.split("\t")[-1] for line in lines) == heard


def entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json(tmp_path: Path) -> None:
    code = """
    console.log('at init')
    exports.handler = async () => {
      console.info('text %s', 1); console.warn({a: [1], e: new TypeError('inner')}); console.error('said', new RangeError('r'))
      console.debug(10n); const round = {}; round.round = round; console.log(round); console.log('two\\nlines')
    }
    """
    init, text, value, error, number, circle, lines = entries(logged(tmp_path, code, AWS_LAMBDA_LOG_FORMAT="JSON"))
    assert init["message"] == "at init"
    assert "requestId" not in init
    assert re.fullmatch(TIME, text.pop("timestamp"))
    assert text == {"level": "INFO", "requestId": "id-1", "message": "text 1"}
    assert value["message"]["a"] == [1]
    assert value["message"]["e"]["errorType"] == "TypeError"
    assert value["message"]["e"]["errorMessage"] == "inner"
    assert error["message"].startswith("said RangeError: r\n")
    assert (error["errorType"], error["errorMessage"]) == ("RangeError", "r")
    assert error["stackTrace"][0] == "RangeError: r"
    assert number["message"] == "10n"
    assert "[Circular *1]" in circle["message"]
    assert lines["message"] == "two\nlines"


def test_errors_of_the_function_in_json(tmp_path: Path) -> None:
    code = "exports.handler = async () => { throw new RangeError('r') }"
    (entry,) = entries(logged(tmp_path, code, AWS_LAMBDA_LOG_FORMAT="JSON"))
    assert entry["level"] == "ERROR"
    assert entry["requestId"] == "id-1"
    assert entry["message"]["errorType"] == "RangeError"
    assert entry["message"]["errorMessage"] == "r"
    assert entry["message"]["stackTrace"][0] == "RangeError: r"


def test_a_full_pipe_holds_the_function_up_and_loses_nothing(tmp_path: Path) -> None:
    """process.stdout makes the descriptor non-blocking; 1 MB is far more than a pipe holds."""
    code = "exports.handler = async () => { process.stdout.write('first\\n'); console.log('x'.repeat(1 << 20)); return 1 }"
    with running(tmp_path, code) as function:
        function.asks_next()
        function.send_event({})
        function.connection.setblocking(False)
        text = ""
        while not text.endswith("x\n"):
            text = function.log()
        function.connection.settimeout(10)
        assert text.count("x") == 1 << 20
        assert function.request().json == 1


def test_a_closed_output_harms_nobody(tmp_path: Path) -> None:
    code = "exports.handler = async () => { require('fs').closeSync(1); console.log('lost'); return 'well' }"
    with running(tmp_path, code) as function:
        assert function.invoke().json == "well"
