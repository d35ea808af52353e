"""Locust's own limit: users that call a hello world without any pause. `python -m loadtests limits` runs it."""

from __future__ import annotations

from locust import FastHttpUser, task


class Hello(FastHttpUser):
    @task
    def hello(self) -> None:
        self.client.get("/")
