"""Cold-heavy: every user has a function of its own and changes it before most calls, so that the call is a cold start.

A call that was meant to be cold and found a used sandbox counts as a failure: it would flatter the figures. The changes
are listed beside the calls, under `update`, as they take time of the gateway too.
"""

from __future__ import annotations

import itertools
import time

import click
from locust import between, task

from gateway.cli.api import Api as Connection
from loadtests import users

users.needs("echo")
PAUSE_S = (0.05, 0.2)


class _Chilling(users.LambentUser):
    abstract = True
    wait_time = between(*PAUSE_S)

    def on_start(self) -> None:
        super().on_start()
        self.rounds = itertools.count()
        self.function = users.scene.functions.deploy("cold")
        self.control = Connection(users.scene.functions.endpoint)

    def on_stop(self) -> None:
        if hasattr(self, "control"):
            self.control.close()

    def chill(self) -> bool:
        """Whether the function is cold now."""
        problem: click.ClickException | None = None
        began_s = time.perf_counter()
        try:
            users.scene.functions.chill(self.function, self.control, next(self.rounds))
        except click.ClickException as error:
            problem = error
        self.environment.events.request.fire(
            request_type="PUT",
            name="update",
            response_time=(time.perf_counter() - began_s) * 1000,
            response_length=0,
            exception=problem,
            context={},
        )
        return problem is None


class Url(_Chilling, users.UrlUser):
    weight = 3

    @task(4)
    def cold(self) -> None:
        if self.chill():
            self.call_url(self.function, "URL cold")

    @task(1)
    def warm(self) -> None:
        self.call("echo")


class Api(_Chilling, users.ApiUser):
    weight = 1

    @task(4)
    def cold(self) -> None:
        if self.chill():
            self.call_api(self.function, "Invoke cold", self.signer)

    @task(1)
    def warm(self) -> None:
        self.call("echo")
