"""Bursts: all users call at the same moment, every `--burst-every` seconds, and are silent in between."""

from __future__ import annotations

import argparse
import time

from locust import events, task

from loadtests import users


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--burst-every", type=float, default=2.0, metavar="S", help="Seconds between two bursts.")


users.needs("echo")
users.on(events.init_command_line_parser, _options)


def _until_the_next(user: users.LambentUser) -> float:
    options = user.environment.parsed_options
    every_s: float = max(0.01, options.burst_every) if options is not None else 2.0
    return every_s - time.time() % every_s


class Url(users.UrlUser):
    weight = 3

    def wait_time(self) -> float:
        return _until_the_next(self)

    @task
    def echo(self) -> None:
        self.call("echo")


class Api(users.ApiUser):
    weight = 1

    def wait_time(self) -> float:
        return _until_the_next(self)

    @task
    def echo(self) -> None:
        self.call("echo")
