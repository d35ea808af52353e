"""What AWS answers to an invocation that goes wrong, as checks: each takes an answer and asserts.

The texts were recorded from AWS in November 2025, or are those of its public runtime emulator and Python runtime client.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.real.product import Answer, Product, eventually

Checked = Callable[[Answer], None]
NO_BREAK_SPACE = "\xa0"


def answers(value: Any) -> Checked:
    """It is as if nothing had happened."""

    def check(answer: Answer) -> None:
        assert (answer.function_error, answer.value) == (None, value)

    return check


def reports(error_type: str, message: str, request_id: str | None = None) -> Checked:
    """The function's own runtime says what went wrong: `message` is a regular expression for all of it."""

    def check(answer: Answer) -> None:
        document = answer.value
        assert answer.function_error == "Unhandled"
        assert set(document) == {"errorMessage", "errorType", "requestId", "stackTrace"}
        assert (document["errorType"], document["requestId"]) == (error_type, answer.request_id if request_id is None else "")
        assert re.fullmatch(message, document["errorMessage"])
        assert all(isinstance(frame, str) for frame in document["stackTrace"])
        trace = [line for frame in document["stackTrace"] for line in frame.splitlines()]
        shown = "".join(f"{line.replace(' ', NO_BREAK_SPACE, len(line) - len(line.lstrip(' ')))}\n" for line in trace)
        said = f"[ERROR] {error_type}: {document['errorMessage']}\nTraceback (most recent call last):\n{shown}"
        assert said in answer.log, "one entry, indented by spaces that do not break"

    return check


def fails_to_start(error_type: str, message: str) -> Checked:
    """Its Init says so; AWS gives no request id then."""
    return reports(error_type, message, request_id="")


def platform_says(error_type: str, message: str) -> Checked:
    """The function is not there to say anything."""

    def check(answer: Answer) -> None:
        text = f"RequestId: {answer.request_id} Error: {message}"
        assert (answer.function_error, answer.value) == ("Unhandled", {"errorType": error_type, "errorMessage": text})
        if error_type == "Sandbox.Timedout":
            line = rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {answer.request_id} {re.escape(message)}"
            assert re.search(f"(?m)^{line}$", answer.log)
        else:
            assert f"\n{text}\n{error_type}\nEND RequestId: {answer.request_id}\n" in answer.log

    return check


def exits(how: str) -> Checked:
    return platform_says("Runtime.ExitError", f"Runtime exited {how}")


def ends_by(name: str) -> Checked:
    return exits(f"with error: signal: {name}")


def too_large(answer: Answer) -> None:
    message = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    assert (answer.function_error, answer.value) == (
        "Unhandled",
        {"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"},
    )


TIMED_OUT = platform_says("Sandbox.Timedout", "Task timed out after 1.00 seconds")
TORN = platform_says("Runtime.TruncatedResponse", "Runtime closed the connection before its response was complete")


def eventually_logged(product: Product, name: str, line: str) -> None:
    """This line comes into the function's log by itself."""
    eventually(lambda: line in product.log(name))
