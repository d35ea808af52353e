"""What the runtime itself costs: asked for with ``-m bench``, on a machine that does nothing else."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

import pytest

from sandbox.clock import SystemClock
from tests.unit.guest.harness import RUNTIME, Forker, every_interpreter, interpreters

# Everything between two system calls on a connection that costs nothing itself; the best of five rounds of 5,000 events.
LOOP = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import lambent_bootstrap
from lambent_runtime_client import LambdaRuntimeClient

headers = {str(number): "value" * 3 for number in range(12)}
event = json.dumps({"version": "2.0", "rawPath": "/", "headers": headers, "numbers": list(range(20))})
fields = ("Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd", "Deadline-Ms: 1583348638390", "Invoked-Function-Arn: arn:aws:x",
          "Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
head = "".join("Lambda-Runtime-" + field + "\\r\\n" for field in fields)
head += "Content-Type: application/json\\r\\nContent-Length: {}\\r\\n\\r\\n".format(len(event))
following = "HTTP/1.1 200 OK\\r\\n" + head + event
accepted = 'HTTP/1.1 202 Accepted\\r\\nContent-Type: application/json\\r\\nContent-Length: 16\\r\\n\\r\\n{"status":"OK"}\\n'

class Connection:
    left = 5001
    def settimeout(self, timeout): pass
    def sendmsg(self, parts):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return sum(map(len, parts))
    def recv(self, size):
        return (following if self.left == 5000 else accepted + following).encode()

lambent_bootstrap._get_handler = lambda name: lambda event, context: {"statusCode": 200, "body": "ok"}
best = 1.0
for _ in range(5):
    client = LambdaRuntimeClient("h:1", Connection())
    began = time.process_time()
    try:
        lambent_bootstrap.run("", client, None)
    except KeyboardInterrupt:
        best = min(best, (time.process_time() - began) / 5000)
print(best)
"""


@pytest.mark.bench
@pytest.mark.parametrize("runtime", every_interpreter())
def test_an_invocation_costs_35_microseconds_at_most(runtime: str) -> None:
    command = [str(interpreters[runtime].executable), "-I", "-S", "-c", LOOP, str(RUNTIME)]
    seconds = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    print(f"{runtime}: {seconds * 1e6:.1f} us per invocation")
    assert seconds < 35e-6


@pytest.mark.bench
def test_a_waiting_fork_is_a_function_within_0_7_ms(forker: Forker, tmp_path: Path) -> None:
    """From the first step of `main` to the request for the first event: the import of the handler is in it."""
    source = "def handler(event, context):\n    return event\n"
    times = []
    for number in range(30):
        with forker.start(tmp_path / str(number), source, environ={"WHEN": "asked"}) as function:
            function.api.expect_next()
            times.append(SystemClock().monotonic() - float(function.read()))
    quarter, median, _ = statistics.quantiles(times)
    print(f"quarter {quarter * 1e3:.2f} ms, median {median * 1e3:.2f} ms")
    assert quarter < 0.7e-3
