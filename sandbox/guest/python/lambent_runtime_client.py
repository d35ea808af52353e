"""The Runtime API spoken over one kept connection, with the least work per invocation that the protocol allows.

An answer is not sent when it is there but together with the request for the next event: one system call carries both,
and the acknowledgement often comes back in one piece with that event. Bodies go to the kernel as they are, uncopied.
The parser takes any HTTP/1.1 answer (interim ones, chunks, bodies up to the end of the connection, a server that closes); quick
is only the common case. Where the connection breaks, for instance because a function closed descriptors that are not its own,
another is made to AWS_LAMBDA_RUNTIME_API and the work goes on there.
"""

from __future__ import annotations

import contextlib
import select
import socket

BASE = "/2018-06-01/runtime/"
MAX_HEAD_BYTES = 1024 * 1024  # the client context travels in a header
RECEIVE_BYTES = 65536


class LambdaRuntimeClientError(Exception):
    """The Runtime API could not be reached, or did not answer as it must."""


class Invocation:
    """One event with what came in its headers; None where a header was absent."""

    __slots__ = (
        "body",
        "client_context",
        "cognito_identity",
        "content_type",
        "deadline_ms",
        "invoked_function_arn",
        "request_id",
        "tenant_id",
        "trace_id",
    )

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        get = headers.get
        self.request_id = headers["lambda-runtime-aws-request-id"]
        self.deadline_ms = _number(get("lambda-runtime-deadline-ms") or "0")
        self.invoked_function_arn = get("lambda-runtime-invoked-function-arn")
        self.trace_id = get("lambda-runtime-trace-id")
        self.client_context = get("lambda-runtime-client-context")
        self.cognito_identity = get("lambda-runtime-cognito-identity")
        self.tenant_id = get("lambda-runtime-aws-tenant-id")
        self.content_type = get("content-type")
        self.body = body


class LambdaRuntimeClient:
    """`address` is AWS_LAMBDA_RUNTIME_API; `connection` a socket already connected to it, used as long as it holds.

    `post_invocation_result` and `post_invocation_error` only keep what they are given; `wait_next_invocation` sends it.
    """

    def __init__(self, address: str, connection: socket.socket | None = None) -> None:
        self._address = address
        self._next = f"GET {BASE}invocation/next HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
        self._post = f"POST {BASE}{{}} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {{}}\r\nContent-Length: {{}}\r\n\r\n"
        self._pending = ()  # type: tuple[bytes, ...]
        self._socket = connection
        self._received = b""  # what came after the last answer
        self._reads = 0
        self._unsent = True  # nothing of the present message has gone out
        self._closing = False  # the server closes after the last answer
        self._accepted = b"-"  # the last acknowledgement, byte for byte: most servers always send the same
        self._readable = None  # type: select.poll | None
        if connection is not None:
            connection.settimeout(None)
            if connection.family == socket.AF_UNIX:
                # Who waits in recv() of a Unix socket is woken for nothing when the other end reads what was sent: the kernel
                # tells all waiters that there is room to write. poll() hears only of what it asked for. Halves the switches.
                self._readable = select.poll()
                self._readable.register(connection, select.POLLIN)

    def post_invocation_result(self, request_id: str, result: bytes, content_type: str = "application/json") -> None:
        head = self._post.format(f"invocation/{request_id}/response", content_type, len(result))
        self._pending = (head.encode(), result)

    def post_invocation_error(self, request_id: str, error: bytes, error_type: str) -> None:
        head = self._post.format(f"invocation/{request_id}/error", _error_headers(error_type), len(error))
        self._pending = (head.encode(), error)

    def post_init_error(self, error: bytes, error_type: str) -> None:
        """Returns when it was acknowledged. Raises LambdaRuntimeClientError, OSError."""
        head = self._post.format("init/error", _error_headers(error_type), len(error))
        if self._socket is None:
            self._connect()
        self._send((head.encode(), error))
        status, _, _ = self._answer()
        if status != 202:
            raise LambdaRuntimeClientError(f"init/error was answered with status {status}")

    def wait_next_invocation(self) -> Invocation:
        """Send what is pending and wait, without limit, for the next event. Raises LambdaRuntimeClientError, OSError.

        How the pending answer was taken makes no difference: one that was too large, late or unknown has been settled by the
        platform, and the next event comes all the same.
        """
        pending, self._pending = self._pending, ()
        if self._socket is not None:
            try:
                return self._exchange(pending)
            except OSError:
                if not self._unsent:  # the platform knows of the answer, or of its loss
                    pending = ()
        self._connect()
        return self._exchange(pending)

    def _exchange(self, pending: tuple[bytes, ...]) -> Invocation:
        self._send((*pending, self._next))
        if pending:
            self._acknowledgement()
            if self._closing:
                self._connect()
                self._send((self._next,))
        status, headers, body = self._answer()
        if status != 200 or "lambda-runtime-aws-request-id" not in headers:
            raise LambdaRuntimeClientError(f"invocation/next was answered with status {status}")
        if self._closing:
            self._close()
        return Invocation(headers, body)

    def _connect(self) -> None:
        self._close()
        host, _, port = self._address.rpartition(":")
        if not port.isdigit():
            raise LambdaRuntimeClientError(f"AWS_LAMBDA_RUNTIME_API is not host:port: {self._address!r}")
        self._socket = socket.create_connection((host, int(port)), None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _close(self) -> None:
        sock, self._socket = self._socket, None
        self._received, self._unsent, self._closing = b"", True, False
        self._readable = None
        if sock is not None:
            with contextlib.suppress(OSError):  # the function closed it
                sock.close()

    def _send(self, parts: tuple[bytes, ...]) -> None:
        assert self._socket is not None
        self._unsent = True
        sent = self._socket.sendmsg(parts)
        self._unsent = False
        if sent < sum(map(len, parts)):  # a signal came in between
            self._socket.sendall(memoryview(b"".join(parts))[sent:])

    def _receive(self) -> bytes:
        assert self._socket is not None
        self._reads += 1
        if self._readable is not None:
            self._readable.poll()
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("the Runtime API closed the connection")
        return data

    def _acknowledgement(self) -> None:
        data = self._received or self._receive()
        if data.startswith(self._accepted):
            self._received = data[len(self._accepted) :]
            return
        self._received = data
        reads = self._reads
        self._answer()
        if self._reads == reads and not self._closing:
            self._accepted = data[: len(data) - len(self._received)]

    def _answer(self) -> tuple[int, dict[str, str], bytes]:
        data = self._received or self._receive()
        while True:
            end = data.find(b"\r\n\r\n")
            while end < 0:
                if len(data) > MAX_HEAD_BYTES:
                    raise LambdaRuntimeClientError("an answer of the Runtime API has no end of its headers")
                data += self._receive()
                end = data.find(b"\r\n\r\n")
            lines = data[:end].decode("utf-8", "surrogateescape").split("\r\n")
            data = data[end + 4 :]
            status = int(lines[0][9:12]) if lines[0][:7] == "HTTP/1." and lines[0][9:12].isdigit() else 0
            if status == 0:
                raise LambdaRuntimeClientError(f"the Runtime API answered with something else than HTTP: {lines[0][:80]!r}")
            if status >= 200:
                break
            data = data or self._receive()
        headers = {}  # type: dict[str, str]
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self._closing = lines[0][7] == "0" or headers.get("connection", "").lower() == "close"
        if "transfer-encoding" in headers:
            return status, headers, self._chunks(data)
        length = headers.get("content-length")
        if length is not None:
            return status, headers, self._exactly(_number(length), data)
        if status in (204, 304):
            self._received = data
            return status, headers, b""
        self._closing = True
        return status, headers, self._to_the_end(data)

    def _exactly(self, length: int, data: bytes) -> bytes:
        """The next `length` bytes, of which `data` has the first, and perhaps more."""
        if len(data) >= length:
            self._received = data[length:]
            return data[:length]
        assert self._socket is not None
        pieces = [data]
        missing = length - len(data)
        while missing:
            piece = self._socket.recv(min(missing, 1 << 20), socket.MSG_WAITALL)
            if not piece:
                raise ConnectionResetError("the Runtime API closed the connection in the middle of a body")
            pieces.append(piece)
            missing -= len(piece)
        self._received = b""
        self._reads += 1
        return b"".join(pieces)

    def _chunks(self, data: bytes) -> bytes:
        pieces = []
        while True:
            line, data = self._line(data)
            size = _number(line.partition(b";")[0].decode("latin-1").strip(), 16)
            if size == 0:
                break
            pieces.append(self._exactly(size + 2, data)[:-2])
            data = self._received
        while line:  # trailers, and the empty line that ends them
            line, data = self._line(data)
        self._received = data
        return b"".join(pieces)

    def _line(self, data: bytes) -> tuple[bytes, bytes]:
        while b"\r\n" not in data:
            if len(data) > MAX_HEAD_BYTES:
                raise LambdaRuntimeClientError("a chunk of the Runtime API has no size")
            data += self._receive()
        line, _, rest = data.partition(b"\r\n")
        return line, rest

    def _to_the_end(self, data: bytes) -> bytes:
        pieces = [data]
        try:
            while True:
                pieces.append(self._receive())
        except ConnectionResetError:
            return b"".join(pieces)


def _number(text: str, base: int = 10) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise LambdaRuntimeClientError(f"the Runtime API sent a number that is none: {text[:80]!r}")
    return number


def _error_headers(error_type: str) -> str:
    safe = "".join(character if " " < character <= "~" else "?" for character in error_type)
    return "application/json\r\nLambda-Runtime-Function-Error-Type: " + safe
