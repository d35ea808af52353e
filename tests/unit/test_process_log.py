"""The log of Lambent's own processes."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from sandbox import process_log

_log = logging.getLogger("gateway.test")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, asyncio_level = list(root.handlers), root.level, logging.getLogger("asyncio").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(asyncio_level)


def test_lines_for_people() -> None:
    stream = io.StringIO()
    process_log.configure(level="info", form="text", stream=stream, process="gateway")
    _log.debug("unseen")
    _log.warning("disk %s", "full", extra={"request_id": "r-1"})
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} warning  disk full \[r-1\]\n", stream.getvalue())


def test_whose_line_it_is() -> None:
    stream = io.StringIO()
    process_log.configure(level="info", form="text", stream=stream, process="spawner", prefix="spawner: ")
    _log.error("no space")
    assert stream.getvalue().endswith(" error    spawner: no space\n")


def test_json_for_machines() -> None:
    stream = io.StringIO()
    process_log.configure(level="debug", form="json", stream=stream, process="gateway")
    try:
        raise ValueError("bytes \udcff")
    except ValueError:
        _log.exception("failed \udcff", extra={"request_id": "r-1", "function": "f", "sandbox": "s"})
    _log.debug("seen")
    logging.getLogger("asyncio").debug("unseen")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert (first["level"], first["logger"], first["message"], first["requestId"]) == ("error", "gateway.test", "failed ?", "r-1")
    assert (first["process"], first["function"], first["sandbox"]) == ("gateway", "f", "s")
    assert "ValueError" in first["exception"]
    assert second == {**second, "level": "debug", "message": "seen"}
    assert "requestId" not in second


def test_exception_for_people_and_configured_again() -> None:
    first, second = io.StringIO(), io.StringIO()
    process_log.configure(level="info", form="text", stream=first, process="gateway")
    process_log.configure(level="error", form="text", stream=second, process="gateway")
    try:
        raise ValueError("x")
    except ValueError:
        _log.exception("failed")
    _log.warning("unseen")
    assert first.getvalue() == ""
    assert second.getvalue().splitlines()[-1] == "ValueError: x"
