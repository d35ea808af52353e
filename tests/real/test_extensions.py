"""Extensions in real sandboxes: what AWS answers and logs, and what of them is left."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli.bench import extensions as bench
from gateway.cli.bench.instance import Instance
from tests import conftest
from tests.real import expected
from tests.real.extensions import LANGUAGES, PYTHON, deploy, said, told
from tests.real.product import Product, eventually

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

ECHO = "import os\ndef handler(event, context):\n    return event\n"
INTERNAL = """
import http.client, json, os, signal, threading
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, body=None, **headers):
    api.request(method, "/2020-01-01/extension" + path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = api.getresponse()
    return answer.headers, json.loads(answer.read())
headers, _ = call("POST", "/register", '{"events":["INVOKE"]}', Lambda_Extension_Name="inside")
def watch():
    while True:
        _, event = call("GET", "/event/next", Lambda_Extension_Identifier=headers["Lambda-Extension-Identifier"])
        print(json.dumps({"inside": event}), flush=True)
threading.Thread(target=watch, daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: print("told to end", flush=True))
def handler(event, context):
    return event
"""


def retire(product: Product, name: str) -> None:
    """Have the sandboxes of a function stopped, and wait until they are."""
    product.client.update_function_configuration(FunctionName=name, Description=f"{time.time()}")
    product.updated(name)
    eventually(lambda: not product.sandboxes(name))


@pytest.mark.parametrize("language", ["python", "shell", "node"])
@pytest.mark.parametrize("frozen", [False, True], ids=["warm", "frozen"])
def test_from_register_to_shutdown(product: Product, language: str, frozen: bool) -> None:
    if language not in LANGUAGES:
        pytest.skip(f"this host has nothing that runs a {language} extension in a sandbox")
    name = deploy(product, ECHO, {"agent": LANGUAGES[language]})
    first = product.invoke(name, 1)
    second = product.invoke(name, 2)
    assert (first.value, second.value) == (1, 2)
    assert "EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in product.log(name)
    if frozen:
        eventually(lambda: product.sandboxes(name) == {"frozen": 1})
    began_s = time.monotonic()
    retire(product, name)
    assert time.monotonic() - began_s < 1.9, "it ended when it was told to"
    events = [one for one in said(product, name, "agent") if "eventType" in one]
    assert [event["eventType"] for event in events] == ["INVOKE", "INVOKE", "SHUTDOWN"]
    assert [event["requestId"] for event in events[:2]] == [first.request_id, second.request_id]
    assert set(events[0]) == {"eventType", "deadlineMs", "requestId", "invokedFunctionArn", "tracing"}
    assert events[0]["tracing"]["type"] == "X-Amzn-Trace-Id"
    assert set(events[2]) == {"eventType", "deadlineMs", "shutdownReason"}
    assert events[2]["shutdownReason"] == "spindown"


def test_the_log_of_a_first_invocation(product: Product) -> None:
    """INIT_START, what was written, the extension's state on a line of its own, then the invocation; Init is billed."""
    name = deploy(product, "print('init', end='')\n" + ECHO, {"agent": PYTHON})
    answer = product.invoke(name)
    lines = product.log(name)
    assert re.fullmatch(r"INIT_START Runtime Version: python:3\.\d+\.v1\tRuntime Version ARN: arn:aws:lambda:\S+", lines[0])
    order = [line.split()[0] for line in lines if not line.startswith("{")]
    assert order == ["INIT_START", "init", "EXTENSION", "START", "END", "REPORT"]
    report = re.search(r"Duration: ([\d.]+) ms\tBilled Duration: (\d+) ms\t.*Init Duration: ([\d.]+) ms\t$", lines[-1])
    assert report is not None, lines[-1]
    ran_ms, billed_ms, init_ms = map(float, report.groups())
    assert 0 <= billed_ms - ran_ms - init_ms < 2.01
    assert "REPORT RequestId" in answer.log, "who wants the tail waits for all of it"
    assert said(product, name, "agent")[0] == {
        "functionName": name,
        "functionVersion": "$LATEST",
        "handler": "app.handler",
        "accountId": "000000000000",
    }


def test_the_caller_does_not_wait_for_extensions_but_the_next_does(product: Product) -> None:
    name = deploy(product, ECHO, {"agent": PYTHON}, {"DO_agent": "work"})
    product.invoke(name)
    began_s = time.monotonic()
    answer = product.client.invoke(FunctionName=name, Payload=b"1")  # without LogType
    assert answer["Payload"].read() == b"1"
    assert time.monotonic() - began_s < 0.4
    assert product.sandboxes(name).keys() == {"finishing"}
    eventually(lambda: any("REPORT" in line and answer["ResponseMetadata"]["RequestId"] in line for line in product.log(name)))
    report = next(
        line for line in product.log(name) if line.startswith(f"REPORT RequestId: {answer['ResponseMetadata']['RequestId']}")
    )
    took_ms = float(re.search(r"\tDuration: ([\d.]+) ms", report)[1])  # type: ignore[index]
    assert took_ms > 450, "the extension's time is the invocation's"


def test_the_runtime_goes_first_and_has_its_share(product: Product) -> None:
    """One that ignores SIGTERM is killed after 600 ms; then extensions are told, and when they have ended it is over."""
    code = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('told to end', flush=True))\n" + ECHO
    name = deploy(product, code, {"agent": PYTHON})
    product.invoke(name)
    began_s = time.monotonic()
    retire(product, name)
    assert 0.6 < time.monotonic() - began_s < 1.9
    log = product.log(name)
    assert log.index("told to end") < next(at for at, line in enumerate(log) if '"SHUTDOWN", "deadlineMs"' in line)


def test_internal_extensions(product: Product) -> None:
    name = product.deploy(INTERNAL)
    assert product.invoke(name, 1).value == 1
    assert "EXTENSION\tName: inside\tState: Ready\tEvents: [INVOKE]" in product.log(name)
    began_s = time.monotonic()
    retire(product, name)
    assert time.monotonic() - began_s > 0.5, "it ignored SIGTERM, and had half a second"
    assert told(product, name, "inside") == ["INVOKE"]
    assert "told to end" in product.log(name)


def test_without_extensions_nobody_is_asked(product: Product) -> None:
    code = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('told to end', flush=True))\n" + ECHO
    name = product.deploy(code)
    product.invoke(name)
    retire(product, name)
    assert "told to end" not in product.log(name)


@pytest.mark.parametrize(
    ("do", "error_type", "how", "state"),
    [
        ("exit in init", "Extension.Crash", "exit status 3", "Started\tEvents: []"),
        (
            "init error",
            "Extension.InitError",
            "exit status 1",
            "InitError\tEvents: [INVOKE, SHUTDOWN]\tError Type: Extension.NoKey",
        ),
        ("exit in invoke", "Extension.Crash", "exit status 4", "Ready\tEvents: [INVOKE, SHUTDOWN]"),
        ("exit error", "Extension.ExitError", "exit status 1", "Ready\tEvents: [INVOKE, SHUTDOWN]"),
    ],
)
def test_extensions_that_fail(product: Product, do: str, error_type: str, how: str, state: str) -> None:
    slow = "import time\ndef handler(event, context):\n    time.sleep(1)\n"
    variables = {"DO_agent": do, "AFTER_agent": "other"}
    name = deploy(product, slow, {"agent": PYTHON, "other": PYTHON}, variables, Timeout=20)
    answer = product.invoke(name)
    expected.platform_says(error_type, how)(answer)
    log = "\n".join(product.log(name))
    assert f"EXTENSION\tName: agent\tState: {state}\n" in log
    if "init" in do:
        assert re.search(rf"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\tStatus: error\tError Type: {error_type}\n", log)
        after = log.index("Phase: invoke")
        assert log.index(f"START RequestId: {answer.request_id}") > after, "START comes after the Init within the invocation"
    assert re.search(rf"REPORT RequestId: {answer.request_id}\t.*\tStatus: error\tError Type: {error_type}\n?", log)
    eventually(lambda: [one for one in said(product, name, "other") if one.get("shutdownReason") == "failure"])


def test_one_that_registers_twice(product: Product) -> None:
    name = deploy(product, ECHO, {"agent": PYTHON}, {"DO_agent": "register twice"})
    assert product.invoke(name, 1).value == 1
    assert [403, "Extension.InvalidExtensionState"] in said(product, name, "agent")


def test_one_that_cannot_be_started(product: Product) -> None:
    name = deploy(product, ECHO, {"agent": "no program\n"})
    expected.platform_says("Extension.LaunchError", "fork/exec /opt/extensions/agent: exec format error")(product.invoke(name))
    assert "EXTENSION\tName: agent\tState: LaunchError\tEvents: []\tError Type: UnknownError" in product.log(name)


def test_one_that_never_registers(product: Product) -> None:
    name = deploy(product, ECHO, {"agent": PYTHON}, {"DO_agent": "never register"}, Timeout=1)
    expected.TIMED_OUT(product.invoke(name))
    log = "\n".join(product.log(name))
    assert re.search(r"INIT_REPORT Init Duration: 10\d{3}\.\d\d ms\tPhase: init\tStatus: timeout\n", log)
    assert re.search(r"INIT_REPORT Init Duration: 1\d{3}\.\d\d ms\tPhase: invoke\tStatus: timeout\n", log)
    assert re.search(r"REPORT .*\tStatus: timeout$", log, re.MULTILINE)


def test_an_extension_that_never_ends_its_work_is_timed_out_after_the_answer(product: Product) -> None:
    name = deploy(product, ECHO, {"agent": PYTHON}, {"DO_agent": "work for ever"}, Timeout=1)
    answer = product.invoke(name, 1)
    assert (answer.value, answer.function_error) == (1, None)
    assert "Task timed out after 1.00 seconds" in answer.log
    assert re.search(r"REPORT .*\tStatus: timeout$", answer.log, re.MULTILINE)


def test_crash_at_shutdown_leaves_nothing(product: Product) -> None:
    name = deploy(product, ECHO, {"agent": PYTHON}, {"DO_agent": "crash at shutdown"})
    product.invoke(name)
    began_s = time.monotonic()
    retire(product, name)
    assert time.monotonic() - began_s < 1.9


def test_one_that_ignores_everything_is_killed_after_two_seconds(product: Product) -> None:
    name = deploy(product, ECHO, {"agent": PYTHON}, {"DO_agent": "ignore SIGTERM"})
    product.invoke(name)
    began_s = time.monotonic()
    retire(product, name)
    assert time.monotonic() - began_s > 1.9
    assert told(product, name, "agent") == ["INVOKE", "SHUTDOWN"]


def test_the_environment_and_the_user_of_an_extension(product: Product) -> None:
    script = PYTHON.replace("say(answer)", "say(answer); say([sorted(os.environ), os.getcwd(), os.getuid()])")
    code = "import os\ndef handler(event, context):\n    return [sorted(os.environ), os.getuid()]\n"
    name = deploy(product, code, {"agent": script}, {"MINE": "1"})
    functions, uid = product.invoke(name).value
    (extensions, directory, user) = said(product, name, "agent")[1]
    assert (directory, user) == ("/", uid)
    assert "MINE" in extensions
    missing = {
        "_HANDLER", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_EXECUTION_ENV", "AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_ADDRESS",
        "_AWS_XRAY_DAEMON_PORT",
    }  # fmt: skip
    assert missing <= set(functions)
    assert not missing & set(extensions)


def test_lambent_that_ends_gives_extensions_their_time(up: Callable[..., Instance], tmp_path: Path) -> None:
    instance = up()
    product = Product(instance, conftest.client_for(instance.endpoint))
    name = deploy(product, ECHO, {"agent": PYTHON, "other": PYTHON}, {"DO_other": "ignore SIGTERM"})
    product.invoke(name)
    product.client.close()
    began_s = time.monotonic()
    assert instance.close() == 0
    assert time.monotonic() - began_s > 1.9, "the other one stays, and is killed after two seconds"
    logs = "".join(path.read_text() for path in (tmp_path / "data").rglob("*") if path.is_file() and "logs" in path.parts)
    for extension in ("agent", "other"):
        assert re.search(rf"{extension}[^\n]*SHUTDOWN[^\n]*spindown", logs)


def test_nobody_waits_for_the_memory_of_extensions_that_take_their_time(up: Callable[..., Instance]) -> None:
    """Making room stops sandboxes, and those have two seconds for it: who needs the room is served at once."""
    instance = up(memory_budget_mb=640, freeze_after_ms=20)
    product = Product(instance, conftest.client_for(instance.endpoint))
    names = [deploy(product, ECHO, {"agent": PYTHON}, {"DO_agent": "ignore SIGTERM"}) for _ in range(5)]
    for name in names:
        product.invoke(name)
    eventually(lambda: all(product.sandboxes(name) == {"frozen": 1} for name in names))
    memory = instance.status()["memory"]
    free_mb = (memory["budget_bytes"] - memory["used_bytes"]) >> 20
    large = product.deploy(ECHO, MemorySize=free_mb + 40)
    answer = product.invoke(large, 1)
    stopping = instance.status()["sandboxes"].get("stopping", 0)
    product.client.close()
    assert answer.value == 1
    assert answer.took_s < 1.5
    assert stopping, "it was made room for, and those that went are still on their way"


def test_who_needs_the_only_place_cuts_a_shutdown_short(up: Callable[..., Instance]) -> None:
    instance = up(max_sandboxes=1, stems_min=0, stems_max=0)
    product = Product(instance, conftest.client_for(instance.endpoint))
    lingering = deploy(product, ECHO, {"agent": PYTHON}, {"DO_agent": "ignore SIGTERM"})
    other = product.deploy(ECHO)
    product.invoke(lingering)
    answer = product.invoke(other, 1)
    product.client.close()
    assert answer.value == 1
    assert answer.took_s < 1.5, "of the two seconds that the extension would have taken"


@pytest.mark.timeout(120)
def test_fifty_that_resist_are_killed_after_two_seconds_and_not_before(tmp_path: Path) -> None:
    """Within how many milliseconds is for `lambent bench lifecycle --check`, on a machine without other work."""
    extension = tmp_path / bench.NAME
    if not bench.compiled("extension.c", extension):
        pytest.skip("this host has no C compiler")
    first, median, last = bench.shutdown(tmp_path / "data", extension, lambda what: None)
    assert first.value >= 1980
    assert median.value < 2500
    assert last.value < 5000
