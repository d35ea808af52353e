"""Response streaming in the Node.js runtime: the Runtime API's streaming mode as AWS's client speaks it."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path

import pytest

from tests.unit.node.harness import Function, Request, needs_node, running

pytestmark = [pytest.mark.slow, needs_node]


def handler(body: str) -> str:
    return f"exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {{ {body} }})"


def streamed(function: Function, request_id: str = "id-1") -> Request:
    found = function.invoke({"n": 3}, request_id)
    assert found.path == f"/invocation/{request_id}/response"
    assert found.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert found.headers["transfer-encoding"] == "chunked"
    assert found.headers["trailer"] == "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
    return found


def told(found: Request) -> dict[str, object]:
    document = json.loads(base64.b64decode(found.trailers["lambda-runtime-function-error-body"]))
    assert isinstance(document, dict)
    assert found.trailers["lambda-runtime-function-error-type"] == document["errorType"]
    return document


WHOLE = {
    "text": ("stream.write('ab'); stream.write('c'); stream.end()", b"abc"),
    "end with text": ("stream.end('abc')", b"abc"),
    "bytes": ("stream.write(Buffer.from([0, 255])); stream.write(new Uint8Array([1])); stream.end()", b"\x00\xff\x01"),
    "an object": ("stream.write({a: 1}); stream.end()", b'{"a":1}'),
    "nothing": ("stream.end()", b""),
    "empty text": ("stream.write(''); stream.end('x')", b"x"),
    "pipeline": (
        "const {Readable} = require('stream'); await require('stream/promises').pipeline(Readable.from(['a', 'b']), stream)",
        b"ab",
    ),
    "after the handler": ("setTimeout(() => stream.end('late'), 5)", b"late"),
    "large": ("for (let i = 0; i < 64; i++) stream.write(Buffer.alloc(65536, 97)); stream.end()", b"a" * (4 << 20)),
}


@pytest.mark.parametrize(("body", "expected"), WHOLE.values(), ids=WHOLE)
def test_what_is_written_is_sent(body: str, expected: bytes, tmp_path: Path) -> None:
    with running(tmp_path, handler(body)) as function:
        for number in range(2):
            found = streamed(function, f"id-{number}")
            assert found.headers["content-type"] == "application/octet-stream"
            assert found.body == expected
            assert found.trailers == {}
        function.asks_next()


def test_the_first_bytes_leave_before_the_handler_ends(tmp_path: Path) -> None:
    with running(
        tmp_path,
        handler(
            "const told = new Promise((r) => process.once('SIGUSR2', r)); stream.write('first'); await told; stream.end('last')"
        ),
    ) as f:
        f.asks_next()
        f.send_event({})
        f.head()
        assert f.chunk() == b"first"
        f.process.send_signal(signal.SIGUSR2)
        assert f.chunk() == b"last"
        assert f.chunk() == b""


@pytest.mark.parametrize("ending", ["stream.write('body'); stream.end()", "stream.end('body')"])
def test_http_prelude(ending: str, tmp_path: Path) -> None:
    code = handler("stream = awslambda.HttpResponseStream.from(stream, {statusCode: 201, headers: {a: 'b'}}); " + ending)
    with running(tmp_path, code) as function:
        found = streamed(function)
        assert found.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
        assert found.body == b'{"statusCode":201,"headers":{"a":"b"}}' + bytes(8) + b"body"


def test_a_prelude_without_a_body_is_sent_too(tmp_path: Path) -> None:
    with running(tmp_path, handler("awslambda.HttpResponseStream.from(stream, {statusCode: 204}).end()")) as function:
        assert streamed(function).body == b'{"statusCode":204}' + bytes(8)


FAILED = {
    "before": ("throw new TypeError('t')", b"", "TypeError", "t"),
    "in the middle": ("stream.write('ab'); throw new TypeError('t')", b"ab", "TypeError", "t"),
    "destroyed": (
        "stream.write('ab'); await new Promise(setImmediate); stream.destroy(new RangeError('d'))",
        b"ab", "RangeError", "d",
    ),
    "never ended": ("", b"", "string", "Response stream is not finished."),
    "content type too late": (
        "stream.write('ab'); await new Promise(setImmediate); stream.setContentType('text/plain')",
        b"ab", "Runtime.InvalidStreamingOperation", "Cannot set content-type, too late.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "sent", "kind", "message"), FAILED.values(), ids=FAILED)
def test_errors_are_told_in_trailers(body: str, sent: bytes, kind: str, message: str, tmp_path: Path) -> None:
    with running(tmp_path, handler(body)) as function:
        for number in range(2):
            found = streamed(function, f"id-{number}")
            assert found.body == sent
            document = told(found)
            assert (document["errorType"], document["errorMessage"]) == (kind, message)
        function.asks_next()


def test_an_exception_beside_the_handler_is_told_and_ends_the_process(tmp_path: Path) -> None:
    code = handler("stream.write('ab'); setTimeout(() => { throw new Error('aside') }, 1); await new Promise(() => {})")
    with running(tmp_path, code) as function:
        found = streamed(function)
        assert found.body == b"ab"
        assert told(found)["errorMessage"] == "aside"
        assert function.ends() == 129


def test_handlers_that_are_no_streaming_ones(tmp_path: Path) -> None:
    with running(tmp_path, "exports.handler = awslambda.streamifyResponse(() => 1)") as function:
        assert told(streamed(function))["errorMessage"] == "Streaming does not support non-async handlers."
    wrong = "exports.handler = async () => 1; exports.handler[Symbol.for('aws.lambda.runtime.handler.streaming')] = 'request'"
    with running(tmp_path, wrong) as function:
        assert function.request().json["errorType"] == "Runtime.MalformedStreamingHandler"


def test_a_return_value_is_warned_of(tmp_path: Path) -> None:
    with running(tmp_path, handler("stream.end('x'); return 1")) as function:
        streamed(function)
        function.asks_next()
        assert "WARN\tStreaming handlers ignore return values." in function.log()


def test_a_reader_that_does_not_read_holds_the_writer_up(tmp_path: Path) -> None:
    """`write` says so, and memory does not grow: 64 MB go through a process that holds a few."""
    code = handler("""
      const piece = Buffer.alloc(65536, 97); let full = 0
      for (let i = 0; i < 1024; i++) if (!stream.write(piece)) { full++; await new Promise((r) => stream.once('drain', r)) }
      stream.end(JSON.stringify([full > 0, process.memoryUsage.rss() < 150e6, stream.writableHighWaterMark]))
    """)
    with running(tmp_path, code) as function:
        body = streamed(function).body
        full, small, mark = json.loads(body[64 << 20 :])
        assert full
        assert small
        assert mark >= 16384


def test_the_high_water_mark_can_be_set(tmp_path: Path) -> None:
    code = (
        "exports.handler = awslambda.streamifyResponse(async (e, s) => s.end(`${s.writableHighWaterMark}`), {highWaterMark: 777})"
    )
    with running(tmp_path, code) as function:
        assert streamed(function).body == b"777"


@pytest.mark.parametrize("mode", ["--fd", "--stem"])
def test_the_global_can_be_left_out(tmp_path: Path, mode: str) -> None:
    code = "exports.handler = async () => typeof awslambda"
    with running(tmp_path, code, mode=mode, AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA="1") as function:
        assert function.invoke().json == "undefined"
    with running(tmp_path, code, mode=mode) as function:
        assert function.invoke().json == "object"
