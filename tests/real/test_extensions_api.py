"""The Extensions API as real extensions meet it: calls and refusals of `/2020-01-01/extension`, events, and who is told what."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import pytest

from tests.real import expected, scripted
from tests.real.extensions import PYTHON, deploy, layer, said, told
from tests.real.product import Product, eventually
from tests.real.scripted import EXTENSIONS_API as API
from tests.real.test_extensions import ECHO, retire

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
NOBODY: Final = "00000000-0000-4000-8000-000000000000"
ME: Final = {"Lambda-Extension-Identifier": "ME"}
WHY: Final = {"Lambda-Extension-Function-Error-Type": "Extension.Bad"}


def answers(product: Product, name: str) -> list[Any]:
    """What the extension `caller` was answered, in order."""
    return said(product, name, "caller")


REFUSED_BEFORE: Final[list[tuple[scripted.Called, tuple[str, str]]]] = [
    (
        ("GET", f"{API}/event/next", {}, None),
        ("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"),
    ),
    (
        ("GET", f"{API}/event/next", {"Lambda-Extension-Identifier": "x"}, None),
        ("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"),
    ),
    (
        ("GET", f"{API}/event/next", {"Lambda-Extension-Identifier": NOBODY}, None),
        ("Extension.UnknownExtensionIdentifier", f"Unknown extension {NOBODY}"),
    ),
    (
        ("POST", f"{API}/exit/error", {"Lambda-Extension-Identifier": NOBODY, **WHY}, ""),
        ("Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier"),
    ),
    (
        ("POST", f"{API}/init/error", {"Lambda-Extension-Identifier": NOBODY}, ""),
        ("Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"),
    ),
    (("POST", f"{API}/register", {}, '{"events":[]}'), ("Extension.InvalidExtensionName", "Empty extension name")),
    (
        ("POST", f"{API}/register", {"Lambda-Extension-Name": "caller"}, '{"events":["INVOKE","PARTY"]}'),
        ("Extension.InvalidEventType", "PARTY: ErrorInvalidEventType"),
    ),
    (
        ("POST", f"{API}/register", {"Lambda-Extension-Name": "other"}, '{"events":["SHUTDOWN"]}'),
        ("Extension.InvalidEventType", "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension"),
    ),
    (
        ("POST", f"{API}/register", {"Lambda-Extension-Name": "caller"}, '{"events":["INVOKE"],"configurationKeys":["a"]}'),
        ("InvalidRequestFormat", "configurationKeys are deprecated; use environment variables instead"),
    ),
    (
        ("PUT", "/2022-07-01/telemetry", {}, "{}"),
        ("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"),
    ),
]


def test_refusals_and_answers(product: Product) -> None:
    """Each call where it is not allowed, the same where it is, all in one life of one extension."""
    name = scripted.extension(
        product,
        ECHO,
        before=[call for call, _ in REFUSED_BEFORE]
        + [("POST", f"{API}/register", {"Lambda-Extension-Name": "caller"}, "no JSON")],
        after=[
            ("POST", f"{API}/register", {"Lambda-Extension-Name": "caller"}, '{"events":[]}'),
            ("POST", f"{API}/exit/error", ME, ""),
            ("PUT", "/2022-07-01/telemetry", ME, "{}"),
            ("PUT", "/2020-08-15/logs", ME, "{}"),
        ],
        within=[
            ("POST", f"{API}/register", {"Lambda-Extension-Name": "late"}, '{"events":[]}'),
            ("POST", f"{API}/init/error", ME | WHY, ""),
            ("PUT", "/2022-07-01/telemetry", ME, TELEMETRY),
            ("PUT", "/2020-08-15/logs", ME, TELEMETRY.replace("2022-07-01", "2020-08-15")),
        ],
    )
    assert product.invoke(name, 1).value == 1
    found = answers(product, name)
    for told_, (call, (error_type, message)) in zip(found, REFUSED_BEFORE, strict=False):
        assert scripted.error(told_) == (403, error_type, message), call
    rest = found[len(REFUSED_BEFORE) :]
    assert scripted.error(rest[0])[:2] == (403, "InvalidRequestFormat")
    status, headers, document = rest[1]
    me = headers["lambda-extension-identifier"]
    assert re.fullmatch(UUID, me)
    assert (status, document) == (200, {"functionName": name, "functionVersion": "$LATEST", "handler": "app.handler"})
    assert [scripted.error(one) for one in rest[2:4]] == [
        (403, "Extension.InvalidExtensionState", not_allowed("Registered", "Registered", "caller")),
        (403, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"),
    ]
    wrong = "schemaVersion should be one of {}; types should not be empty; destination is not provided"
    assert scripted.error(rest[4]) == (400, "ValidationError", wrong.format("2022-07-01, 2022-12-13, 2025-01-29"))
    status, kind, message = scripted.error(rest[5])
    assert (status, kind, message) == (400, "Logs.ValidationError", "types should not be empty; destination is not provided")
    status, headers, event = rest[6]
    assert (status, event["eventType"]) == (200, "INVOKE")
    assert re.fullmatch(UUID, headers["lambda-extension-event-identifier"])
    assert [scripted.error(one) for one in rest[7:11]] == [
        (403, "Extension.RegistrationClosed", "Extension registration closed already"),
        (403, "Extension.InvalidExtensionState", not_allowed("Running", "InitError", me)),
        (403, "Telemetry.SubscriptionClosed", "Telemetry API subscription is closed already"),
        (403, "Logs.SubscriptionClosed", "Logs API subscription is closed already"),
    ]
    assert "EXTENSION\tName: caller\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in product.log(name)


TELEMETRY: Final = '{"schemaVersion":"2022-07-01","types":["function"],"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080"}}'


def not_allowed(state: str, wanted: str, who: str) -> str:
    return f"State transition from {state} to {wanted} failed for extension {who}. Error: State transition is not allowed"


def test_the_account_is_told_to_who_asks(product: Product) -> None:
    name = scripted.extension(product, ECHO, with_={"Lambda-Extension-Accept-Feature": "other, accountId"})
    product.invoke(name)
    status, _, document = answers(product, name)[0]
    assert (status, document.pop("accountId")) == (200, "000000000000")
    assert document == {"functionName": name, "functionVersion": "$LATEST", "handler": "app.handler"}


@pytest.mark.parametrize(
    ("call", "error_type"), [("init/error", "Extension.InitError"), ("exit/error", "Extension.ExitError")], ids=["init", "exit"]
)
def test_one_that_says_it_fails_and_stays(product: Product, call: str, error_type: str) -> None:
    """It is told 202, and the environment fails with what it said, though its process goes on."""
    name = scripted.extension(product, ECHO, after=[("POST", f"{API}/{call}", ME | WHY, '{"errorMessage":"m"}')])
    expected.platform_says(error_type, "Extension.Bad")(product.invoke(name))
    log = "\n".join(product.log(name))
    assert [202, {}, {"status": "OK"}] in answers(product, name)
    state = error_type.removeprefix("Extension.")
    assert f"EXTENSION\tName: caller\tState: {state}\tEvents: [INVOKE, SHUTDOWN]\tError Type: Extension.Bad\n" in log
    assert re.search(rf"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\tStatus: error\tError Type: {error_type}\n", log)


INTERNAL: Final = """
import http.client, json, os, threading
def call(method, path, headers, body=None):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request(method, "/2020-01-01/extension" + path, body, headers)
    answer = api.getresponse()
    return answer.status, answer.headers, json.loads(answer.read())
def register(name, events):
    return call("POST", "/register", {"Lambda-Extension-Name": name}, json.dumps({"events": events}))
def ask(headers):
    call("GET", "/event/next", {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]})
for number in range(10):
    status, headers, _ = register(f"inside{number}", ["INVOKE"] if number == 9 else [])
    threading.Thread(target=ask, args=(headers,), daemon=True).start()
refused = [register("eleventh", [])[::2], register("shuts", ["SHUTDOWN"])[::2]]
def handler(event, context):
    return refused + [register("late", [])[::2], register("inside0", [])[::2]]
"""


def test_ten_internal_ones_and_no_more(product: Product) -> None:
    """Those that want no event are waited for at Init, and then not."""
    name = product.deploy(INTERNAL, Timeout=3)
    answer = product.invoke(name)
    assert answer.value == [
        [403, {"errorType": "Extension.TooManyExtensions", "errorMessage": "Extension limit (10) reached"}],
        [
            403,
            {
                "errorType": "Extension.InvalidEventType",
                "errorMessage": "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension",
            },
        ],
        [403, {"errorType": "Extension.RegistrationClosed", "errorMessage": "Extension registration closed already"}],
        [403, {"errorType": "Extension.RegistrationClosed", "errorMessage": "Extension registration closed already"}],
    ]
    lines = [line for line in product.log(name) if line.startswith("EXTENSION")]
    assert lines[8:] == [
        "EXTENSION\tName: inside8\tState: Ready\tEvents: []",
        "EXTENSION\tName: inside9\tState: Ready\tEvents: [INVOKE]",
    ]
    assert len(lines) == 10
    # The tenth was given its INVOKE and never asks again: the invocation is answered, and over when its time is.
    assert re.search(r"REPORT .*\tStatus: timeout$", answer.log, re.MULTILINE)


def test_eleven_external_ones(product: Product) -> None:
    name = deploy(product, ECHO, {f"agent{number:02}": PYTHON for number in range(11)}, Timeout=3)
    expected.platform_says("Extension.LaunchError", "ErrTooManyExtensions")(product.invoke(name))
    lines = [line for line in product.log(name) if line.startswith("EXTENSION")][:11]
    assert lines[0] == "EXTENSION\tName: agent00\tState: Started\tEvents: []"
    assert lines[10] == "EXTENSION\tName: agent10\tState: LaunchError\tEvents: []\tError Type: TooManyExtensions"


def test_ten_external_ones_in_five_layers(product: Product) -> None:
    """All are started before the runtime, and told in the order of their names."""
    names = [f"agent{number}" for number in range(10)]
    script = PYTHON.replace("status, headers, answer =", "say('registers')\nstatus, headers, answer =")
    arns = [layer(product, dict.fromkeys(names[at : at + 2], script), f"five-{at}") for at in range(0, 10, 2)]
    name = product.deploy("print('the runtime begins')\n" + ECHO, Layers=arns, MemorySize=512, Timeout=20)
    assert product.invoke(name, 1).value == 1
    log = product.log(name)
    registered = [log.index(f'{{"{one}": "registers"}}') for one in names]
    assert max(registered) < log.index("the runtime begins")
    assert [line.split("\t")[1] for line in log if line.startswith("EXTENSION")] == [f"Name: {one}" for one in names]


@pytest.mark.parametrize(
    ("events", "gets"),
    [("INVOKE SHUTDOWN", ["INVOKE", "SHUTDOWN"]), ("INVOKE", ["INVOKE"]), ("SHUTDOWN", ["SHUTDOWN"]), ("", [])],
    ids=["both", "invoke", "shutdown", "none"],
)
def test_each_is_told_what_it_asked_for(product: Product, events: str, gets: list[str]) -> None:
    """Who is not told of the end is killed when the others are: the shutdown takes no longer for it."""
    name = deploy(product, ECHO, {"agent": PYTHON}, {"EVENTS_agent": events})
    assert product.invoke(name, 1).value == 1
    assert f"EXTENSION\tName: agent\tState: Ready\tEvents: [{', '.join(events.split())}]" in product.log(name)
    began_s = time.monotonic()
    retire(product, name)
    assert time.monotonic() - began_s < 1.9
    eventually(lambda: told(product, name, "agent") == gets)


def test_what_extensions_take_after_the_answer_is_a_metric(product: Product) -> None:
    """AWS's PostRuntimeExtensionsDuration."""
    name = deploy(product, ECHO, {"agent": PYTHON}, {"DO_agent": "work"})
    product.invoke(name)
    page = product.fetch("/metrics")[2].decode()
    found = re.search(rf'lambent_post_runtime_extensions_seconds_sum{{function="{name}"}} ([\d.]+)', page)
    assert found is not None
    assert 0.4 < float(found[1]) < 5
    assert f'lambent_post_runtime_extensions_seconds_count{{function="{name}"}} 1.0' in page
