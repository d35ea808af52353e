"""What the generators themselves can do, against an aiohttp hello world on uvloop: nothing above that is Lambent's limit.

The hello world runs on the same machine. wrk, where it is installed, says how much of a limit is the hello world's own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from gateway.cli.bench.load import Target, wrk

USERS: Final = 16
_LOCUSTFILE: Final = Path(__file__).parent / "locustfiles" / "hello.py"


@contextlib.contextmanager
def hello_world() -> Iterator[Target]:
    """It runs for as long as the context lasts. Raises click.ClickException where it does not start."""
    process = subprocess.Popen([sys.executable, "-P", "-m", "gateway.cli.bench.hello"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise click.ClickException("the hello world did not start")
        yield Target("127.0.0.1", int(port), "/", "127.0.0.1")
    finally:
        process.kill()
        process.communicate()


def of_locust(target: Target, seconds: int) -> dict[str, float]:
    """Requests a second of one locust process with 16 users that never pause: as much as one core lets it make."""
    command = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless", "--json", "--skip-log"]
    command += ["--host", f"http://{target.host}:{target.port}", "-u", str(USERS), "-r", "1000", "-t", f"{seconds}s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"locust failed:\n{done.stdout}{done.stderr}")
    (entry,) = json.loads(done.stdout)
    return {"per_s": entry["num_requests"] / (entry["last_request_timestamp"] - entry["start_time"])}


def of_hello_world(target: Target, seconds: int) -> dict[str, float] | None:
    """What wrk gets out of it with as many connections, None where there is no wrk."""
    if shutil.which("wrk") is None:
        return None
    return {"per_s": wrk(target, connections=USERS, seconds=seconds).requests_per_s}
