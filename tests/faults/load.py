"""Load that goes on while something dies, and remembers what every single request came to."""

from __future__ import annotations

import contextlib
import enum
import http.client
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

LONGEST_S = 60.0  #: no request is ever waited for longer


class End(enum.Enum):
    OK = "ok"
    FAILED = "the function's error"  #: 502 of a function URL, FunctionError of Invoke
    REFUSED = "not run"  #: an error of the service, 5xx
    CUT = "no answer"  #: the connection could not be made, or broke
    WRONG = "anything else"


class Request(NamedTuple):
    begun_s: float
    ended_s: float
    end: End
    detail: str


class Load:
    """Calls one function through its URL and with boto3, several at a time, until it is left.

    With `churn` its configuration is changed all the time, so that new sandboxes are needed and old ones stopped all the time.
    """

    def __init__(self, client: Any, endpoint: str, name: str, path: str, *, churn: bool = False, callers: int = 6) -> None:
        self._client = client
        self._name = name
        self._path = path
        parts = urllib.parse.urlsplit(endpoint)
        assert parts.hostname is not None
        self._address = parts.hostname, parts.port
        self._ending = threading.Event()
        self._news = threading.Condition()
        self._done: list[Request] = []
        by_boto = callers // 3
        work = [self._invoke] * by_boto + [self._call_url] * (callers - by_boto)
        self._threads = [threading.Thread(target=self._repeat, args=(one,), daemon=True) for one in work]
        if churn:
            self._threads.append(threading.Thread(target=self._churn, daemon=True))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin nothing more and wait for what runs."""
        self._ending.set()
        for thread in self._threads:
            thread.join(LONGEST_S + 10)
        assert not any(thread.is_alive() for thread in self._threads), "a request has no end"

    @property
    def done(self) -> list[Request]:
        with self._news:
            return list(self._done)

    def ends(self, since_s: float = 0.0) -> Counter[End]:
        """How the requests ended that ended after `since_s`."""
        return Counter(request.end for request in self.done if request.ended_s >= since_s)

    def answered(self, count: int, since_s: float, within_s: float) -> float:
        """Wait for so many good answers to requests that began after `since_s`; how long after it the first one was there."""

        def good() -> list[Request]:
            return [request for request in self._done if request.end is End.OK and request.begun_s >= since_s]

        with self._news:
            there = self._news.wait_for(lambda: len(good()) >= count, within_s)
            assert there, f"{len(good())} good answers in {within_s:g} s; before: {self._done[-10:]}"
            return min(request.ended_s for request in good()) - since_s

    def _repeat(self, once: Callable[[http.client.HTTPConnection], tuple[End, str]]) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=LONGEST_S)
        while not self._ending.is_set():
            begun_s = time.monotonic()
            end, detail = once(connection)
            with self._news:
                self._done.append(Request(begun_s, time.monotonic(), end, detail))
                self._news.notify_all()
            if end is End.CUT:
                connection.close()
                self._ending.wait(0.01)
        connection.close()

    def _call_url(self, connection: http.client.HTTPConnection) -> tuple[End, str]:
        try:
            connection.request("GET", self._path)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return End.CUT, repr(error)
        detail = f"{response.status} {text[:200]}"
        if response.status == 200:
            return (End.OK if text == "done" else End.WRONG), detail
        if response.status == 502:
            return End.FAILED, detail
        return (End.REFUSED if response.status >= 500 else End.WRONG), detail

    def _invoke(self, _: http.client.HTTPConnection) -> tuple[End, str]:
        try:
            answer = self._client.invoke(FunctionName=self._name)
            text = answer["Payload"].read().decode(errors="replace")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return (End.REFUSED if status >= 500 else End.WRONG), str(error)
        except (BotoCoreError, OSError) as error:
            return End.CUT, repr(error)
        if "FunctionError" in answer:
            return End.FAILED, text[:200]
        return (End.OK if '"done"' in text else End.WRONG), text[:200]

    def _churn(self) -> None:
        number = 0
        while not self._ending.wait(0.1):
            number += 1
            with contextlib.suppress(ClientError, BotoCoreError, OSError):  # whoever cares looks at the answers
                self._client.update_function_configuration(
                    FunctionName=self._name, Environment={"Variables": {"NUMBER": str(number)}}
                )
