"""Which call an extension may make when, and what it is told; every state with every event."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sandbox.runtime_api import extensions, wire
from sandbox.runtime_api.extensions import NEXT, Event, Extension, Extensions, State
from sandbox.runtime_api.session import Refused
from tests.sandboxes import SPEC, work

CALLS = {Event.REGISTERED, Event.ASKED, Event.INIT_FAILED, Event.EXIT_ANNOUNCED}


def parts(answer: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), json.loads(body)


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Error type and message of a call that is not granted."""
    with pytest.raises(Refused) as caught:
        call()
    status, _, document = parts(caught.value.answer)
    assert status == 403
    assert set(document) == {"errorType", "errorMessage"}
    return document["errorType"], document["errorMessage"]


def headers(name: str = "", **more: str) -> Mapping[bytes, bytes]:
    found = {wire.EXTENSION_NAME: name.encode()} if name else {}
    return found | {getattr(wire, key): value.encode() for key, value in more.items()}


def events(*names: str) -> bytes:
    return json.dumps({"events": names}).encode()


# The table.


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_state_with_every_event(state: State, event: Event) -> None:
    extension = Extension("name", external=True)
    extension.state = state
    if event in NEXT[state]:
        extension.see(event)
        assert extension.state is NEXT[state][event]
    elif event in CALLS:
        error_type, message = refusal(lambda: extension.see(event))
        assert error_type == "Extension.InvalidExtensionState"
        assert re.fullmatch(
            rf"State transition from {state} to \w+ failed for extension \S+\. Error: State transition is not allowed", message
        )
        assert extension.state is state
    else:
        extension.see(event)
        assert extension.state is state, "what we tell it, and not it us, is passed over"


def test_every_state_can_be_reached() -> None:
    reached = {State.STARTED}
    while more := {after for state in reached for after in NEXT[state].values()} - reached:
        reached |= more
    assert reached == set(State)


def test_what_goes_wrong_is_final() -> None:
    for state in (State.INIT_ERROR, State.EXIT_ERROR, State.SHUTDOWN_FAILED, State.EXITED, State.LAUNCH_ERROR):
        assert set(NEXT[state].values()) <= {state}


# Registering.


def test_what_a_registration_is_answered() -> None:
    known = Extensions(SPEC, ["agent"])
    extension, answer = known.register(headers("agent"), events("INVOKE", "SHUTDOWN"))
    status, sent, document = parts(answer)
    assert (status, sent["Content-Type"]) == (200, "application/json")
    assert document == {"functionName": "hello", "functionVersion": "$LATEST", "handler": "app.handler"}
    assert known.find(sent["Lambda-Extension-Identifier"]) is extension
    assert (extension.external, extension.state, extension.events) == (True, State.REGISTERED, ("INVOKE", "SHUTDOWN"))


def test_the_account_for_who_asks_for_it() -> None:
    known = Extensions(SPEC, ["agent"])
    _, answer = known.register(headers("agent", EXTENSION_FEATURE="other, accountId"), events())
    assert parts(answer)[2]["accountId"] == SPEC.account_id


@pytest.mark.parametrize("body", [b"{}", b'{"events":[]}', b'{"events":null}', b'{"events":["INVOKE"],"more":1}'])
def test_what_may_be_asked_for(body: bytes) -> None:
    Extensions(SPEC, ["agent"]).register(headers("agent"), body)


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("", b"{}", ("Extension.InvalidExtensionName", "Empty extension name")),
        ("agent", b'{"events":["NONE"]}', ("Extension.InvalidEventType", "NONE: ErrorInvalidEventType")),
        (
            "inside",
            b'{"events":["SHUTDOWN"]}',
            ("Extension.InvalidEventType", "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension"),
        ),
        (
            "agent",
            b'{"configurationKeys":["x"]}',
            ("InvalidRequestFormat", "configurationKeys are deprecated; use environment variables instead"),
        ),
        ("agent", b"", ("InvalidRequestFormat", None)),
        ("agent", b"[]", ("InvalidRequestFormat", None)),
        ("agent", b'{"events":"INVOKE"}', ("InvalidRequestFormat", None)),
        ("agent", b'{"events":[1]}', ("InvalidRequestFormat", None)),
        ("agent", b"\xff", ("InvalidRequestFormat", None)),
    ],
)
def test_registrations_that_are_refused(name: str, body: bytes, expected: tuple[str, str | None]) -> None:
    known = Extensions(SPEC, ["agent"])
    error_type, message = refusal(lambda: known.register(headers(name), body))
    assert error_type == expected[0]
    assert expected[1] in (None, message)
    assert [extension.state for extension in known] == [State.STARTED], "nothing has changed"


def test_registering_twice() -> None:
    known = Extensions(SPEC, ["agent"])
    known.register(headers("agent"), events())
    assert refusal(lambda: known.register(headers("agent"), events())) == (
        "Extension.InvalidExtensionState",
        "State transition from Registered to Registered failed for extension agent. Error: State transition is not allowed",
    )
    known.register(headers("inside"), events())
    assert refusal(lambda: known.register(headers("inside"), events())) == (
        "Extension.InvalidExtensionState",
        "Extension with this name already registered",
    )


def test_ten_and_no_more() -> None:
    known = Extensions(SPEC, ["agent"])
    for number in range(9):
        known.register(headers(f"inside-{number}"), events("INVOKE"))
    assert refusal(lambda: known.register(headers("one-more"), events())) == (
        "Extension.TooManyExtensions",
        "Extension limit (10) reached",
    )
    known.register(headers("agent"), events())


def test_internal_ones_register_during_init_only() -> None:
    known = Extensions(SPEC, ["agent"])
    known.open = False
    assert refusal(lambda: known.register(headers("inside"), events())) == (
        "Extension.RegistrationClosed",
        "Extension registration closed already",
    )


# Identifiers and errors.


def test_identifiers() -> None:
    assert refusal(lambda: extensions.identifier_of({})) == (
        "Extension.MissingExtensionIdentifier",
        "Missing Lambda-Extension-Identifier header",
    )
    assert refusal(lambda: extensions.identifier_of(headers(EXTENSION_IDENTIFIER="no uuid"))) == (
        "Extension.InvalidExtensionIdentifier",
        "Invalid Lambda-Extension-Identifier",
    )
    name = "8C3B2A10-0F5E-4F43-9A43-2F1C5D7E9B01"
    assert extensions.identifier_of(headers(EXTENSION_IDENTIFIER=name)) == name.lower()


def test_errors_have_a_type() -> None:
    assert refusal(lambda: extensions.error_type_of({})) == (
        "Extension.MissingHeader",
        "Lambda-Extension-Function-Error-Type not found",
    )
    assert extensions.error_type_of(headers(EXTENSION_ERROR_TYPE="Extension.NoKey")) == "Extension.NoKey"


# Who is waited for.


def test_the_runtime_begins_when_all_external_ones_have_registered() -> None:
    known = Extensions(SPEC, ["one", "two"])
    known.register(headers("one"), events())
    assert not known.all_registered
    known.register(headers("two"), events())
    assert known.all_registered


def test_idle_is_when_those_that_get_invoke_ask_again() -> None:
    known = Extensions(SPEC, ["one", "two"])
    one, _ = known.register(headers("one"), events("INVOKE"))
    two, _ = known.register(headers("two"), events("SHUTDOWN"))
    seen = [(known.all_ready, known.idle)]
    for extension, event in (
        (one, Event.ASKED),
        (two, Event.ASKED),
        (one, Event.GIVEN),
        (one, Event.ASKED),
        (two, Event.GIVEN),  # its events are none of an invocation's
    ):
        extension.see(event)
        seen.append((known.all_ready, known.idle))
    assert seen == [(False, False), (False, True), (True, True), (False, False), (True, True), (False, True)]


# Events.


def test_events_are_aws_json() -> None:
    job = work(request_id="8c3b2a10-0f5e-4f43-9a43-2f1c5d7e9b01", trace_id="Root=1-5759e988-bd862e3fe1be46a994272793")
    status, sent, document = parts(extensions.event_answer(extensions.invoke_event(job, 1_795_253_823_000)))
    assert status == 200
    assert re.fullmatch(r"[0-9a-f-]{36}", sent["Lambda-Extension-Event-Identifier"])
    assert document == {
        "eventType": "INVOKE",
        "deadlineMs": 1_795_253_823_000,
        "requestId": "8c3b2a10-0f5e-4f43-9a43-2f1c5d7e9b01",
        "invokedFunctionArn": SPEC.arn,
        "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1-5759e988-bd862e3fe1be46a994272793"},
    }
    assert "tracing" not in extensions.invoke_event(dataclasses.replace(job, trace_id=""), 1)
    assert extensions.shutdown_event("spindown", 1_795_253_823_000) == {
        "eventType": "SHUTDOWN",
        "deadlineMs": 1_795_253_823_000,
        "shutdownReason": "spindown",
    }
