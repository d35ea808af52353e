"""The HTTP client: any valid answer in any pieces is understood, all else raises OSError or LambdaRuntimeClientError."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lambent_runtime_client
from lambent_runtime_client import LambdaRuntimeClient, LambdaRuntimeClientError
from tests.unit.guest.harness import ACCEPTED, Api, event_bytes


class Recorded:
    """A connection that gives these pieces, whatever it is sent."""

    family = socket.AF_INET

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.sent: list[bytes] = []

    def settimeout(self, timeout: float | None) -> None: ...
    def close(self) -> None: ...

    def sendmsg(self, parts: tuple[bytes, ...]) -> int:
        self.sent.append(b"".join(parts))
        return len(self.sent[-1])

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > size:
            self._pieces.insert(0, piece[size:])
        return piece[:size]


class OneConnection(LambdaRuntimeClient):
    def _connect(self) -> None:
        raise ConnectionResetError


def client_of(connection: Recorded) -> LambdaRuntimeClient:
    return OneConnection("h:1", cast("socket.socket", connection))


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


def chunked(body: bytes, size: int) -> bytes:
    chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(body[i : i + size]), body[i : i + size]) for i in range(0, len(body), size))
    return b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: 1\r\n\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bytes]:
    body = draw(st.binary(max_size=60))
    head = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\nX-Strange:\xc3\xa9 \r\n"
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]))
    if draw(st.booleans()):
        return body, interim + head + b"content-length:  %d\r\n\r\n" % len(body) + body
    return body, interim + head + chunked(body, draw(st.integers(1, 9)))


@given(st.lists(answers(), min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=40))
def test_any_answers_in_any_pieces(expected: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(ACCEPTED * (number > 0) + answer for number, (_, answer) in enumerate(expected))
    connection = Recorded(pieces_of(stream, cuts))
    client = client_of(connection)
    for number, (body, _) in enumerate(expected):
        if number:
            client.post_invocation_result("1", b"{}")
        assert client.wait_next_invocation().body == body
    assert len(connection.sent) == len(expected)
    with pytest.raises(ConnectionResetError):
        client.wait_next_invocation()


lines = st.sampled_from(
    [
        ACCEPTED,
        event_bytes(b"{}"),
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204 \r\n",
        b"Content-Length: x\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Lambda-Runtime-Aws-Request-Id: 1\r\n",
        b"Lambda-Runtime-Deadline-Ms: soon\r\n",
        b"\r\n",
        b"-5\r\n",
    ]
)


@given(st.lists(st.one_of(st.binary(), lines), max_size=12))
def test_garbage_raises_and_nothing_else(pieces: list[bytes]) -> None:
    client = client_of(Recorded(pieces))
    client.post_invocation_error("1", b"{}", "E")
    with contextlib.suppress(OSError, LambdaRuntimeClientError):
        client.wait_next_invocation()


@contextlib.contextmanager
def served() -> Iterator[tuple[LambdaRuntimeClient, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        client = LambdaRuntimeClient(f"127.0.0.1:{listener.getsockname()[1]}")
        try:
            yield client, listener
        finally:
            client._close()


def test_a_server_that_closes_after_each_answer() -> None:
    """The `next` that went out behind an answer is lost with the connection, so it is sent again."""
    with served() as (client, listener):
        client.post_invocation_result("1", b"[]")
        seen: list[str] = []

        def serve() -> None:
            for answer, count in (
                (b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 2),
                (event_bytes(b"7"), 1),
            ):
                sock, _ = listener.accept()
                with sock:
                    api = Api(sock)
                    seen.extend(api.request().path.rpartition("/")[2] for _ in range(count))
                    sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert client.wait_next_invocation().body == b"7"
        thread.join()
        assert seen == ["response", "next", "next"]


def test_an_answer_whose_fate_is_unknown_is_not_sent_twice() -> None:
    here, there = socket.socketpair()
    with served() as (client, listener), here:
        other = LambdaRuntimeClient(client._address, there)
        other.post_invocation_result("1", b"[]")
        paths: list[str] = []

        def serve() -> None:
            paths.append(Api(here).request().path)
            here.close()
            sock, _ = listener.accept()
            with sock:
                paths.append(Api(sock).request().path)
                sock.sendall(event_bytes(b"8"))

        thread = threading.Thread(target=serve)
        thread.start()
        assert other.wait_next_invocation().body == b"8"
        thread.join()
        other._close()
        assert [path.rpartition("/")[2] for path in paths] == ["response", "next"]


def test_init_error_wants_its_acknowledgement() -> None:
    client = client_of(Recorded([b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"]))
    with pytest.raises(LambdaRuntimeClientError, match="403"):
        client.post_init_error(b"{}", "E")


RUNTIME = """
import resource, socket, sys
from lambent_runtime_client import LambdaRuntimeClient
client = LambdaRuntimeClient("127.0.0.1:9", socket.socket(fileno=int(sys.argv[1])))
client.wait_next_invocation()
before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
for _ in range(int(sys.argv[2])):
    client.post_invocation_result("1", b"[]")
    client.wait_next_invocation()
print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before)
"""


def test_a_wait_is_one_sleep() -> None:
    """The kernel wakes who sleeps in recv() of a Unix socket also when the other end reads: twice the switches, for nothing."""
    rounds = 50
    here, there = socket.socketpair()
    with here, there:
        runtime = subprocess.Popen(
            [sys.executable, "-c", RUNTIME, str(there.fileno()), str(rounds)],
            env={"PYTHONPATH": str(Path(lambent_runtime_client.__file__).parent)},
            pass_fds=[there.fileno()],
            stdout=subprocess.PIPE,
        )
        api = Api(here)
        with runtime:
            api.request()
            here.sendall(event_bytes(b"1"))
            for _ in range(rounds):
                select.select([here], [], [], 10)
                while Path(f"/proc/{runtime.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
                    pass  # its answer is here; now it sleeps
                assert [api.request().method, api.request().method] == ["POST", "GET"]
                here.sendall(ACCEPTED + event_bytes(b"1"))
            assert runtime.stdout is not None
            sleeps = int(runtime.stdout.read())
    assert sleeps <= 1.2 * rounds
