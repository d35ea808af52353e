"""Locust's users, and what a locustfile needs of its functions: there when a test starts, gone when it stopped.

Importing locust makes gevent replace the standard library's sockets, so this module is for locust's own process only.
"""

from __future__ import annotations

import itertools
import logging
import time
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

import click
import gevent
from locust import FastHttpUser, events
from locust.runners import MasterRunner

from loadtests.functions import Function, Functions, body_of, endpoint_of_environment, event
from loadtests.sigv4 import Signer

if TYPE_CHECKING:
    from locust.env import Environment

log: Final = logging.getLogger("lambent")


class Scene:
    """The functions of the test that runs; one for the process, as locust has its events."""

    def __init__(self) -> None:
        self.kinds: tuple[str, ...] = ()
        self.functions = Functions("")
        self.online: dict[str, Function] = {}
        self.problem: str | None = None

    def set(self, environment: Environment) -> None:
        """Put the functions online. Where that fails the test ends, with exit code 1 if there is no page to start another."""
        if isinstance(environment.runner, MasterRunner):  # its workers have users, and functions for them
            return
        self.functions = Functions(environment.host or endpoint_of_environment())
        self.problem = None
        try:
            self.online = {kind: self.functions.deploy(kind) for kind in self.kinds}
        except click.ClickException as error:
            self.problem = error.format_message()
            log.error("no functions to call: %s", self.problem)
            environment.process_exit_code = 1
            runner, options = environment.runner, environment.parsed_options
            if runner is not None:  # later, since it is this runner that is just starting
                gevent.spawn(runner.quit if options is not None and options.headless else runner.stop)
        else:
            environment.process_exit_code = None

    def strike(self) -> None:
        """Remove them."""
        try:
            self.functions.remove()
        except click.ClickException as error:
            if self.problem is None:
                log.error("left online: %s: %s", ", ".join(self.functions.made), error.format_message())


scene: Final = Scene()


def needs(*kinds: str) -> None:
    """Called once by a locustfile: which functions it calls."""
    scene.kinds = kinds
    on(events.test_start, lambda environment, **_: scene.set(environment))
    on(events.test_stop, lambda **_: scene.strike())


def on(hook: Any, listener: Callable[..., None]) -> None:
    """Listen to one of locust's events, whose methods have no types."""
    hook.add_listener(listener)


class LambentUser(FastHttpUser):
    """One client with a connection of its own. An answer counts as a failure unless the function answered what it should."""

    abstract = True
    host = endpoint_of_environment()
    max_retries = 0  # a second attempt would hide that the first failed
    bodies: ClassVar[itertools.count[int]] = itertools.count()

    def on_start(self) -> None:
        if scene.problem is not None:
            raise gevent.GreenletExit  # the test is about to end; locust would log any other exception for every user

    def call_url(self, function: Function, name: str) -> None:
        """Through the function's URL."""
        sent = f"hello {next(self.bodies)}"
        headers = {"Host": function.url.host_header, "Content-Type": "text/plain"}
        with self.client.post(function.url.path, data=sent, headers=headers, name=name, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
            elif not function.kind.right(sent, answer.text or ""):
                answer.failure("wrong answer")

    def call_api(self, function: Function, name: str, signer: Signer) -> None:
        """Through Invoke, signed."""
        sent = f"hello {next(self.bodies)}"
        payload = event(sent).decode()
        host = urllib.parse.urlsplit(self.host or "").netloc
        headers: dict[str, Any] = {"Host": host, "Content-Type": "application/json"}
        headers.update(signer.headers("POST", host, function.invocations, payload.encode(), time.time()))
        with self.client.post(function.invocations, data=payload, headers=headers, name=name, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
            elif "X-Amz-Function-Error" in answer.headers:
                answer.failure(f"function error {answer.headers['X-Amz-Function-Error']}")
            elif not function.kind.right(sent, _body(answer.content or b"")):
                answer.failure("wrong answer")


class UrlUser(LambentUser):
    """Calls function URLs."""

    abstract = True

    def call(self, kind: str) -> None:
        self.call_url(scene.online[kind], f"URL {kind}")


class ApiUser(LambentUser):
    """Calls the Lambda API, signed as boto3 signs."""

    abstract = True
    signer: ClassVar[Signer] = Signer.of_environment()

    def call(self, kind: str) -> None:
        self.call_api(scene.online[kind], f"Invoke {kind}", self.signer)


def _body(payload: bytes) -> str:
    try:
        return body_of(payload)
    except click.ClickException:
        return ""
