"""Steady load: every user calls an echo function 20 times a second, three of four by its URL, one by the signed API."""

from __future__ import annotations

from locust import constant_throughput, task

from loadtests import users

users.needs("echo")
CALLS_PER_S = 20


class Url(users.UrlUser):
    weight = 3
    wait_time = constant_throughput(CALLS_PER_S)

    @task
    def echo(self) -> None:
        self.call("echo")


class Api(users.ApiUser):
    weight = 1
    wait_time = constant_throughput(CALLS_PER_S)

    @task
    def echo(self) -> None:
        self.call("echo")
