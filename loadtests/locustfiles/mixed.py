"""Mixed functions: mostly short calls, with others among them that compute, wait, or answer with much."""

from __future__ import annotations

from locust import between, task

from loadtests import users

users.needs("echo", "compute", "wait", "large")
PAUSE_S = (0.02, 0.1)


class Url(users.UrlUser):
    weight = 3
    wait_time = between(*PAUSE_S)

    @task(6)
    def echo(self) -> None:
        self.call("echo")

    @task(2)
    def compute(self) -> None:
        self.call("compute")

    @task(2)
    def wait_for_another(self) -> None:
        self.call("wait")

    @task(1)
    def large(self) -> None:
        self.call("large")


class Api(users.ApiUser):
    weight = 1
    wait_time = between(*PAUSE_S)

    @task(2)
    def echo(self) -> None:
        self.call("echo")

    @task(1)
    def compute(self) -> None:
        self.call("compute")
