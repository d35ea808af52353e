"""The extensions of one environment: which call each may make when, who is subscribed to what, who is still busy. [P]

The states and their names are AWS's (runtime interface emulator, core/externalagent_states.go and internalagent_states.go), since
refusals and log lines name them; error types and texts are those of its rapi/handler. What differs is on purpose:

- `next` is allowed again when the connection that waited is gone: on AWS such an extension is refused until its environment ends.
  While the first request still waits a second one is refused there and here.
- An event that an extension could not be handed, because its connection broke, is handed to it when it asks.

External extensions are known by name before they run, and the runtime begins when all of them have registered. Any other name is
an internal one: it registers from within the runtime, before that first asks for an event.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from sandbox.outcome import Work
from sandbox.runtime_api import wire
from sandbox.runtime_api.session import Refused
from sandbox.spec import FunctionSpec

MAX_EXTENSIONS: Final = 10
INVOKE: Final = "INVOKE"
SHUTDOWN: Final = "SHUTDOWN"


class State(enum.StrEnum):
    """Where an extension is, from what it said last."""

    STARTED = "Started"  #: its process runs
    REGISTERED = "Registered"
    READY = "Ready"  #: asked for an event
    RUNNING = "Running"  #: has one
    INIT_ERROR = "InitError"  #: said so; it is expected to end
    EXIT_ERROR = "ExitError"  #: said so; it is expected to end
    SHUTDOWN_FAILED = "ShutdownFailed"  #: had to be killed
    EXITED = "Exited"  #: ended after its SHUTDOWN event
    LAUNCH_ERROR = "LaunchError"  #: could not be started


class Event(enum.StrEnum):
    """What moves it."""

    REGISTERED = "registered"
    ASKED = "asked"  #: for the next event
    GIVEN = "given"  #: an event
    INIT_FAILED = "init failed"
    EXIT_ANNOUNCED = "exit announced"
    ENDED = "ended"  #: by itself, when it was told to
    KILLED = "killed"  #: because it did not
    LAUNCH_FAILED = "launch failed"


NEXT: Final[dict[State, dict[Event, State]]] = {
    State.STARTED: {Event.REGISTERED: State.REGISTERED, Event.LAUNCH_FAILED: State.LAUNCH_ERROR},
    State.REGISTERED: {
        Event.ASKED: State.READY,
        Event.INIT_FAILED: State.INIT_ERROR,
        Event.EXIT_ANNOUNCED: State.EXIT_ERROR,
    },
    State.READY: {Event.ASKED: State.READY, Event.GIVEN: State.RUNNING, Event.EXIT_ANNOUNCED: State.EXIT_ERROR},
    State.RUNNING: {
        Event.ASKED: State.READY,
        Event.GIVEN: State.RUNNING,  # the SHUTDOWN of an environment that is stopped in the middle of an invocation
        Event.EXIT_ANNOUNCED: State.EXIT_ERROR,
        Event.ENDED: State.EXITED,
        Event.KILLED: State.SHUTDOWN_FAILED,
    },
    State.INIT_ERROR: {Event.INIT_FAILED: State.INIT_ERROR},
    State.EXIT_ERROR: {Event.EXIT_ANNOUNCED: State.EXIT_ERROR},
    State.SHUTDOWN_FAILED: {},
    State.EXITED: {},
    State.LAUNCH_ERROR: {},
}

#: The state that a call aims at, as its refusal names it.
_AIMS: Final = {
    Event.REGISTERED: State.REGISTERED,
    Event.ASKED: State.READY,
    Event.INIT_FAILED: State.INIT_ERROR,
    Event.EXIT_ANNOUNCED: State.EXITED,  # AWS's own slip of the pen
}


def refused(error_type: str, message: str) -> Refused:
    """What a call that is not granted raises: the 403 as AWS says it."""
    return Refused(wire.error_answer(403, error_type, message))


class Extension:
    """One of them. `id` is its secret; `error_type` is what it said went wrong, or why it could not be started."""

    __slots__ = ("alive", "error_type", "events", "external", "id", "name", "pending", "state")

    def __init__(self, name: str, *, external: bool) -> None:
        self.name = name
        self.external = external
        self.id = str(uuid.uuid4())
        self.state = State.STARTED
        self.events: tuple[str, ...] = ()
        self.error_type: str | None = None
        self.pending = b""  #: an event that it gets when it asks
        self.alive = external  #: has a process of its own that runs

    def __repr__(self) -> str:
        return f"<Extension {self.name} {self.state.value} {','.join(self.events)}>"

    def see(self, event: Event) -> None:
        """Move. Raises Refused when a call is not allowed now; what is not a call is passed over then."""
        after = NEXT[self.state].get(event)
        if after is not None:
            self.state = after
        elif event in _AIMS:
            raise not_now(self, event)

    def give(self, event: bytes) -> None:
        """An event is there for it, a whole answer to `next`; whoever has its connection sends it and empties `pending`."""
        self.see(Event.GIVEN)
        self.pending = event


class Extensions:
    """All of one environment, the external ones first. Made when its first one begins, and anew after each reset."""

    __slots__ = ("_by_id", "_by_name", "_spec", "open")

    def __init__(self, spec: FunctionSpec, external: Sequence[str] = ()) -> None:
        self._spec = spec
        self._by_name = {name: Extension(name, external=True) for name in external}
        self._by_id = {extension.id: extension for extension in self._by_name.values()}
        self.open = True  #: whether internal ones may still register

    def __repr__(self) -> str:
        return f"<Extensions {list(self._by_name.values())}>"

    def __iter__(self) -> Any:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __getitem__(self, name: str) -> Extension:
        return self._by_name[name]

    # The calls.

    def register(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Extension, bytes]:
        """Who has registered, and the answer. Raises Refused."""
        name = headers.get(wire.EXTENSION_NAME, b"").decode("latin-1")
        if not name:
            raise refused("Extension.InvalidExtensionName", "Empty extension name")
        events = _events(body)
        extension = self._by_name.get(name)
        external = extension is not None and extension.external
        for event in events:
            if event == SHUTDOWN and not external:
                raise refused("Extension.InvalidEventType", f"{event}: ShutdownEventNotSupportedForInternalExtension")
            if event not in (INVOKE, SHUTDOWN):
                raise refused("Extension.InvalidEventType", f"{event}: ErrorInvalidEventType")
        if not external:
            if not self.open:
                raise closed()
            if len(self) >= MAX_EXTENSIONS:
                raise refused("Extension.TooManyExtensions", f"Extension limit ({MAX_EXTENSIONS}) reached")
            if extension is not None:
                raise refused("Extension.InvalidExtensionState", "Extension with this name already registered")
            extension = Extension(name, external=False)
        assert extension is not None
        extension.see(Event.REGISTERED)
        extension.events = tuple(dict.fromkeys(events))
        self._by_name[name] = extension
        self._by_id[extension.id] = extension
        features = {feature.strip() for feature in headers.get(wire.EXTENSION_FEATURE, b"").split(b",")}
        return extension, self._registered(extension, with_account=b"accountId" in features)

    def _registered(self, extension: Extension, *, with_account: bool) -> bytes:
        spec = self._spec
        document = {"functionName": spec.name, "functionVersion": spec.version, "handler": spec.handler}
        if with_account:
            document["accountId"] = spec.account_id
        return wire.answer(200, orjson.dumps(document), extra=f"Lambda-Extension-Identifier: {extension.id}\r\n")

    def find(self, identifier: str) -> Extension | None:
        """Whose call this is."""
        return self._by_id.get(identifier)

    # What there is.

    @property
    def all_registered(self) -> bool:
        """The runtime may begin: every external one has registered."""
        return all(extension.state is not State.STARTED for extension in self if extension.external)

    @property
    def all_ready(self) -> bool:
        """Init is over as far as it is theirs: every one has asked for an event, also those that want none."""
        return all(extension.state is State.READY for extension in self)

    @property
    def idle(self) -> bool:
        """None works on an event: those that get INVOKE have asked for the next."""
        return all(extension.state is State.READY for extension in self if INVOKE in extension.events)

    @property
    def processes(self) -> list[Extension]:
        """The external ones whose processes run."""
        return [extension for extension in self if extension.alive]

    def of(self, event: str) -> list[Extension]:
        """Those subscribed to `event`."""
        return [extension for extension in self if event in extension.events]


def identifier_of(headers: Mapping[bytes, bytes]) -> str:
    """The caller's Lambda-Extension-Identifier, in the usual form. Raises Refused."""
    text = headers.get(wire.EXTENSION_IDENTIFIER, b"").decode("latin-1")
    if not text:
        raise refused("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise refused("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier") from None


def unknown(what: str) -> Refused:
    """Nobody has this identifier, or not any more."""
    return refused("Extension.UnknownExtensionIdentifier", f"Unknown {what}")


def error_type_of(headers: Mapping[bytes, bytes]) -> str:
    """What an extension that reports an error calls it. Raises Refused."""
    text = headers.get(wire.EXTENSION_ERROR_TYPE, b"").decode("latin-1")
    if not text:
        raise refused("Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")
    return text


def not_now(extension: Extension, event: Event) -> Refused:
    """Its state does not allow the call. AWS names an extension that registers, and gives the identifier of one that has."""
    known_as = extension.name if event is Event.REGISTERED else extension.id
    return refused(
        "Extension.InvalidExtensionState",
        f"State transition from {extension.state} to {_AIMS[event]} failed for extension {known_as}."
        " Error: State transition is not allowed",
    )


def closed() -> Refused:
    """It registers after Init."""
    return refused("Extension.RegistrationClosed", "Extension registration closed already")


def _events(body: bytes) -> list[str]:
    """The subscriptions that a registration asks for. Raises Refused."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise refused("InvalidRequestFormat", str(error)) from None
    if not isinstance(document, dict):
        raise refused("InvalidRequestFormat", "the body is not a JSON object")
    if document.get("configurationKeys"):
        raise refused("InvalidRequestFormat", "configurationKeys are deprecated; use environment variables instead")
    events = document.get("events")
    if events is None:
        return []
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise refused("InvalidRequestFormat", "events is not an array of strings")
    return events


def invoke_event(work: Work, deadline_ms: int) -> dict[str, Any]:
    """The INVOKE event; `deadline_ms` is since the epoch."""
    event: dict[str, Any] = {
        "eventType": INVOKE,
        "deadlineMs": deadline_ms,
        "requestId": work.request_id,
        "invokedFunctionArn": work.invoked_arn,
    }
    if work.trace_id:
        event["tracing"] = {"type": "X-Amzn-Trace-Id", "value": work.trace_id}
    return event


def shutdown_event(reason: str, deadline_ms: int) -> dict[str, Any]:
    """The SHUTDOWN event; `reason` is ``spindown``, ``timeout`` or ``failure``, in AWS's own case."""
    return {"eventType": SHUTDOWN, "deadlineMs": deadline_ms, "shutdownReason": reason}


def event_answer(event: Mapping[str, Any]) -> bytes:
    """`event` as the whole answer to a `next`; its identifier differs for each that gets it."""
    return wire.answer(200, orjson.dumps(event), extra=f"Lambda-Extension-Event-Identifier: {uuid.uuid4()}\r\n")
