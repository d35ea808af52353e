"""AWS Lambda's API as botocore describes it: operations, shapes, constraints, errors. Loaded once and indexed.

Nothing here is written by hand: an operation that AWS adds is routed, validated and rendered as soon as botocore knows it, and
answered 501 until it has a rule.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import botocore.loaders
import botocore.model

#: Where in an HTTP message a member of a structure is; everything else is in the body.
PLACES: Final = frozenset({"uri", "querystring", "header", "headers", "statusCode"})


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorShape:
    """How one of AWS's errors looks on the wire: some shapes say ``message``, some ``Message``."""

    code: str
    status: int
    message_key: str


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One operation: how a request for it looks and which shapes go in and out."""

    name: str
    method: str
    segments: tuple[str, ...]  #: of the path; ``{Name}`` is a member of the input
    literals: Mapping[str, str]  #: what the query must say for this operation to be meant, ``List=ALL`` for one
    status: int
    input: botocore.model.StructureShape | None
    output: botocore.model.StructureShape | None
    blobs: tuple[str, ...]  #: names of members of the body that hold bytes, at any depth: these requests may be large


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """An operation and what the path said."""

    operation: Operation
    labels: Mapping[str, str]


@functools.cache
def service() -> botocore.model.ServiceModel:
    """botocore's model of Lambda. Takes 0.1 s the first time; it is a constant of the installed botocore, hence the cache."""
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("lambda", "service-2"), "lambda")


@functools.cache
def errors() -> Mapping[str, ErrorShape]:
    """The error shapes of the model, by code."""
    return {
        shape.name: ErrorShape(
            code=shape.name,
            status=shape.metadata["error"]["httpStatusCode"],
            message_key=next(name for name in shape.members if name.lower() == "message"),
        )
        for shape in service().error_shapes
        if isinstance(shape, botocore.model.StructureShape)
    }


@functools.cache
def operations() -> Mapping[str, Operation]:
    """Every operation of the model, by name."""
    return {name: _operation(service().operation_model(name)) for name in service().operation_names}


def wire_name(member: str, shape: botocore.model.Shape) -> str:
    """What a member is called in the message, where that is not its own name."""
    name: str = shape.serialization.get("name", member)
    return name


def place(shape: botocore.model.Shape) -> str | None:
    """Where in the message a member is: one of PLACES, or None for the body."""
    location: str | None = shape.serialization.get("location")
    return location


class Router:
    """Finds the operation that a request means, in as many steps as its path has segments."""

    __slots__ = ("_root",)

    def __init__(self, known: Sequence[Operation]) -> None:
        self._root = _Node()
        for operation in known:
            node = self._root
            for segment in operation.segments:
                key = "{}" if segment.startswith("{") else segment
                node = node.following.setdefault(key, _Node())
            # what asks for more in the query comes first
            node.operations.setdefault(operation.method, []).append(operation)
            node.operations[operation.method].sort(key=lambda one: -len(one.literals))

    def find(self, method: str, path: str, query: str) -> Route | None:
        """The operation for a method, an undecoded path and an undecoded query. A slash at the end does not matter."""
        values: list[str] = []
        node = self._root
        segments = path.strip("/").split("/") if path.endswith("/") else path.lstrip("/").split("/")
        for segment in segments:
            following = node.following.get(segment)
            if following is None:
                following = node.following.get("{}")
                values.append(unquote(segment))
            if following is None:
                return None
            node = following
        given = None
        for operation in node.operations.get(method, ()):
            if operation.literals:
                given = given if given is not None else dict(parse_qsl(query, keep_blank_values=True))
                if any(given.get(name) != value for name, value in operation.literals.items()):
                    continue
            names = [segment[1:-1] for segment in operation.segments if segment.startswith("{")]
            return Route(operation, dict(zip(names, values, strict=True)))
        return None


class _Node:
    __slots__ = ("following", "operations")

    def __init__(self) -> None:
        self.following: dict[str, _Node] = {}
        self.operations: dict[str, list[Operation]] = {}


def _operation(found: botocore.model.OperationModel) -> Operation:
    http: Mapping[str, Any] = found.http
    path, _, query = http["requestUri"].partition("?")
    return Operation(
        name=found.name,
        method=http["method"],
        segments=tuple(path.strip("/").split("/")),
        literals=dict(parse_qsl(query, keep_blank_values=True)),
        status=http.get("responseCode", 200),
        input=_structure(found.input_shape),
        output=_structure(found.output_shape),
        blobs=tuple(sorted(_blobs(_structure(found.input_shape)))),
    )


def _structure(shape: botocore.model.Shape | None) -> botocore.model.StructureShape | None:
    return shape if isinstance(shape, botocore.model.StructureShape) else None


def _blobs(shape: botocore.model.StructureShape | None, seen: frozenset[str] = frozenset()) -> set[str]:
    if shape is None or shape.name in seen:
        return set()
    payload = shape.serialization.get("payload")
    found: set[str] = set()
    for name, member in shape.members.items():
        if place(member) in PLACES or name == payload:
            continue
        if member.type_name == "blob":
            found.add(wire_name(name, member))
        found |= _blobs(_structure(member), seen | {shape.name})
    return found
