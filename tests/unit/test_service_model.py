# ruff: noqa: E501 (recorded texts are kept whole)
"""The generic layer over botocore's service model: routing, constraints, reading and rendering.

Texts are recorded from AWS between November 2023 and January 2026. The wire tests have more of them, with boto3 as the client.
"""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import botocore.model
import pytest
from aiohttp import web
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge import constraints, model, parse, render
from gateway.errors import (
    ApiError,
    CodeSigningConfigNotFoundException,
    InvalidParameterValueException,
    InvalidRequestContentException,
    ResourceNotFoundException,
    SerializationException,
    ServiceException,
    ShuttingDown,
    TooManyRequestsException,
    ValidationException,
)

OPERATIONS = model.operations()
ROUTER = model.Router(list(OPERATIONS.values()))


def nulls(shape: botocore.model.Shape | None, depth: int = 0) -> Iterator[Any]:
    """Values that have a null in a list or map of `shape`, each in another one."""
    if depth > 5:
        return
    match shape:
        case botocore.model.StructureShape():
            for name, member in shape.members.items():
                yield from ({name: value} for value in nulls(member, depth + 1))
        case botocore.model.ListShape():
            yield [None]
            yield from ([value] for value in nulls(shape.member, depth + 1))
        case botocore.model.MapShape():
            yield {"k": None}
            yield from ({"k": value} for value in nulls(shape.value, depth + 1))


def violations(operation: str, **values: Any) -> str:
    """What `constraints.check` says of an operation's input."""
    shape = OPERATIONS[operation].input
    assert shape is not None
    with pytest.raises(ValidationException) as caught:
        constraints.check(shape, values)
    return caught.value.message


class TestRouting:
    @pytest.mark.parametrize("name", sorted(OPERATIONS))
    def test_every_operation_is_found_as_botocore_sends_it(self, name: str) -> None:
        operation = OPERATIONS[name]
        label = "arn:aws:lambda:eu-west-1:123456789012:function:a b/c?d%"
        path = "/" + "/".join(
            urllib.parse.quote(label, safe="-._~") if segment[0] == "{" else segment for segment in operation.segments
        )
        for more in ("", "/"):
            route = ROUTER.find(operation.method, path + more, urllib.parse.urlencode({**operation.literals, "Marker": "x"}))
            assert route is not None
            assert route.operation.name == name
            assert dict(route.labels) == {segment[1:-1]: label for segment in operation.segments if segment[0] == "{"}

    def test_literals_in_the_query_decide(self) -> None:
        path = "/2019-09-30/functions/f/provisioned-concurrency"
        for query, name in (
            ("List=ALL", "ListProvisionedConcurrencyConfigs"),
            ("List=all&Qualifier=1", "GetProvisionedConcurrencyConfig"),
            ("", "GetProvisionedConcurrencyConfig"),
        ):
            route = ROUTER.find("GET", path, query)
            assert route is not None
            assert route.operation.name == name

    @given(st.text(max_size=200), st.sampled_from(["GET", "POST", "PUT", "DELETE", "get", ""]))
    def test_no_path_breaks_it(self, path: str, method: str) -> None:
        route = ROUTER.find(method, path, "")
        assert route is None or route.operation.method == method


class TestConstraints:
    def test_the_order_of_a_java_hash_set(self) -> None:
        """Recorded 12 January 2026: 25 runtimes in this order."""
        recorded = [
            "nodejs20.x", "python3.14", "provided.al2023", "python3.12", "python3.13", "nodejs24.x", "nodejs22.x", "java25", "python3.10", "python3.11", "java21",
            "ruby3.3", "ruby3.4", "ruby3.2", "python3.8", "python3.9", "java17", "nodejs16.x", "dotnet10", "dotnet8", "java11", "dotnet6", "nodejs18.x",
            "provided.al2", "java8.al2",
        ]  # fmt: skip
        assert constraints.hash_set_order(recorded) == recorded  # those with the same place in the table stay in their order
        assert constraints.hash_set_order(["arm64", "x86_64"]) == ["x86_64", "arm64"]
        assert constraints.hash_set_order(["None", "PublishedVersions"]) == ["PublishedVersions", "None"]
        assert constraints.hash_set_order(["Allow", "Terminate"]) == ["Terminate", "Allow"]

    @pytest.mark.parametrize(
        ("operation", "values", "text"),
        [
            ("PutProvisionedConcurrencyConfig", {"FunctionName": "f", "Qualifier": "1", "ProvisionedConcurrentExecutions": 0}, "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1"),
            ("PutFunctionRecursionConfig", {"FunctionName": "f", "RecursiveLoop": "InvalidValue"}, "1 validation error detected: Value 'InvalidValue' at 'recursiveLoop' failed to satisfy constraint: Member must satisfy enum value set: [Terminate, Allow]"),
            ("ListLayers", {"CompatibleArchitecture": "archdoesnotexist"}, "1 validation error detected: Value 'archdoesnotexist' at 'compatibleArchitecture' failed to satisfy constraint: Member must satisfy enum value set: [x86_64, arm64]"),
            ("AddLayerVersionPermission", {"LayerName": "l", "VersionNumber": 1, "StatementId": "s", "Action": "*", "Principal": "*"}, "1 validation error detected: Value '*' at 'action' failed to satisfy constraint: Member must satisfy regular expression pattern: lambda:GetLayerVersion"),
            ("UpdateFunctionConfiguration", {"FunctionName": "f", "VpcConfig": {"SecurityGroupIds": ["b"]}}, "1 validation error detected: Value '[b]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: sg-[0-9a-zA-Z]*]"),
            ("UntagResource", {"Resource": "arn:aws:lambda:eu-west-1:123456789012:function:f"}, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"),
            ("CreateEventSourceMapping", {"FunctionName": "f", "StartingPosition": "invalid"}, "1 validation error detected: Value 'invalid' at 'startingPosition' failed to satisfy constraint: Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"),
        ],
    )  # fmt: skip
    def test_recorded_texts(self, operation: str, values: dict[str, Any], text: str) -> None:
        assert violations(operation, **values) == text

    def test_names_that_are_too_long(self) -> None:
        """Recorded 2025."""
        name = "arn:aws:lambda:us-east-1:123456789012:function:" + "a" * 100
        assert violations("UpdateFunctionCode", FunctionName=name) == (
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 140"
        )

    def test_elements_of_lists_of_structures(self) -> None:
        found = violations("UpdateFunctionConfiguration", FunctionName="f", FileSystemConfigs=[{"Arn": "x"}])
        assert "Value 'x' at 'fileSystemConfigs.1.member.arn' failed" in found
        assert (
            "Value null at 'fileSystemConfigs.1.member.localMountPath' failed to satisfy constraint: Member must not be null"
            in found
        )

    def test_what_is_sensitive_is_not_repeated(self) -> None:
        found = violations("UpdateFunctionConfiguration", FunctionName="f", Environment={"Variables": {"1": "secret"}})
        assert "secret" not in found
        assert found.startswith("1 validation error detected: Value at 'environment.variables' failed")

    def test_null_elements(self) -> None:
        assert "Member must not be null" in violations(
            "CreateAlias",
            FunctionName="f",
            Name="a",
            FunctionVersion="1",
            RoutingConfig={"AdditionalVersionWeights": {"1": None}},
        )
        assert "Value '[null]' at 'architectures'" in violations("UpdateFunctionCode", FunctionName="f", Architectures=[None])

    def test_null_in_lists_of_structures(self) -> None:
        complete = {
            "Arn": "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-12345678901234567",
            "LocalMountPath": "/mnt/a",
        }
        assert (
            violations("UpdateFunctionConfiguration", FunctionName="f", FileSystemConfigs=[complete, None])
            == f"2 validation errors detected: Value '[{constraints.text(complete)}, null]' at 'fileSystemConfigs' failed to satisfy constraint: "
            "Member must have length less than or equal to 1; "
            "Value null at 'fileSystemConfigs.2.member' failed to satisfy constraint: Member must not be null"
        )

    def test_null_anywhere_is_a_mistake_of_the_caller(self) -> None:
        for operation in OPERATIONS.values():
            for values in nulls(operation.input):
                assert "not be null" in violations(operation.name, **values)

    def test_a_hostile_text_is_not_matched_for_ever(self) -> None:
        violations("GetFunction", FunctionName="a:" * 500_000)
        violations("UpdateFunctionConfiguration", FunctionName="f", Role="arn:aws:iam::123456789012:role/" + "/" * 9_000 + "\n")

    @pytest.mark.parametrize("tag", ["Größe", "日本", "a b", "x\u2003y", "+-=._:/@", "٣"])
    def test_letters_of_all_scripts_in_tags(self, tag: str) -> None:
        shape = OPERATIONS["TagResource"].input
        assert shape is not None
        resource = "arn:aws:lambda:eu-west-1:123456789012:function:f"
        constraints.check(shape, {"Resource": resource, "Tags": {tag: tag}})
        violations("TagResource", Resource=resource, Tags={f"{tag}!": tag})

    def test_all_patterns_of_the_model_can_be_used(self) -> None:
        service = model.service()
        for name in service.shape_names:
            pattern = service.shape_for(name).metadata.get("pattern")
            if pattern:
                constraints._compiled(pattern).fullmatch("some text")


def read(
    operation: str,
    *,
    labels: dict[str, str] | None = None,
    query: str = "",
    headers: dict[str, str] | None = None,
    body: Any = b"",
) -> dict[str, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse.parse(model.Route(OPERATIONS[operation], labels or {}), query, headers or {}, data)


class TestReading:
    def test_members_from_everywhere(self) -> None:
        found = read(
            "Invoke",
            labels={"FunctionName": "f"},
            query="Qualifier=live%201",
            headers={"X-Amz-Invocation-Type": "Event", "X-Other": "1"},
            body=b"\x00raw",
        )
        assert found == {"FunctionName": "f", "Qualifier": "live 1", "InvocationType": "Event", "Payload": b"\x00raw"}

    def test_values(self) -> None:
        found = read(
            "CreateEventSourceMapping",
            body={
                "FunctionName": "f",
                "BatchSize": 5.0,
                "Enabled": True,
                "StartingPositionTimestamp": 1.5,
                "Queues": ["a"],
                "Tags": {"k": "v"},
                "Unknown": 1,
                "Topics": None,
            },
        )
        assert found == {
            "FunctionName": "f",
            "BatchSize": 5,
            "Enabled": True,
            "StartingPositionTimestamp": 1.5,
            "Queues": ["a"],
            "Tags": {"k": "v"},
        }
        assert type(found["BatchSize"]) is int

    @pytest.mark.parametrize(
        "text", ["2026-11-21T10:00:00Z", "2026-11-21T11:00:00+01:00", "Sat, 21 Nov 2026 10:00:00 GMT", "1795255200", 1795255200]
    )
    def test_times(self, text: str | int) -> None:
        assert read("CreateEventSourceMapping", body={"StartingPositionTimestamp": text}) == {
            "StartingPositionTimestamp": 1795255200.0
        }

    def test_lists_in_the_query(self) -> None:
        assert read("UntagResource", labels={"Resource": "r"}, query="tagKeys=a&tagKeys=b%26c")["TagKeys"] == ["a", "b&c"]
        assert "TagKeys" not in read("UntagResource", labels={"Resource": "r"})

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 1000, 300_000, 2_000_001])
    def test_blobs_of_any_size(self, size: int) -> None:
        blob = bytes(range(256)) * (size // 256 + 1)
        blob = blob[:size]
        text = base64.b64encode(blob).decode()
        assert read("UpdateFunctionCode", labels={"FunctionName": "f"}, body={"ZipFile": text, "DryRun": True}) == {
            "FunctionName": "f",
            "ZipFile": blob,
            "DryRun": True,
        }
        assert read("CreateFunction", body={"Code": {"ZipFile": text}}) == {"Code": {"ZipFile": blob}}

    @given(st.binary(max_size=300))
    def test_no_body_breaks_it(self, body: bytes) -> None:
        with contextlib.suppress(InvalidRequestContentException, SerializationException):
            assert isinstance(read("CreateFunction", body=body), dict)

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**70), 2**70)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=10),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["Variables", "ZipFile", "Size", "a"]), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        st.sampled_from(
            [
                "FunctionName",
                "Environment",
                "Code",
                "Timeout",
                "Architectures",
                "Tags",
                "Publish",
                "EphemeralStorage",
                "VpcConfig",
            ]
        ),
    )
    def test_any_json_is_read_or_refused(self, value: Any, member: str) -> None:
        """And what was read can be checked: nothing has a kind that the checks do not expect."""
        shape = OPERATIONS["CreateFunction"].input
        assert shape is not None
        with contextlib.suppress(SerializationException, ValidationException):
            constraints.check(shape, read("CreateFunction", body={member: value}))


def rendered(operation: str, result: dict[str, Any] | None) -> tuple[int, dict[str, str], Any]:
    """The answer, and what botocore's own parser makes of it."""
    response = render.answer(OPERATIONS[operation], result, "an-id")
    body = response.body
    assert isinstance(body, bytes | None)
    shape = OPERATIONS[operation].output or botocore.model.StructureShape("Nothing", {"type": "structure", "members": {}})
    headers = {key.lower(): value for key, value in response.headers.items()}
    parsed = create_parser("rest-json").parse({"headers": headers, "body": body or b"", "status_code": response.status}, shape)
    del parsed["ResponseMetadata"]
    return response.status, headers, parsed


class TestRendering:
    def test_members_and_status(self) -> None:
        status, headers, parsed = rendered("CreateAlias", {"Name": "a", "Description": "", "RoutingConfig": None})
        assert (status, headers["x-amzn-requestid"], headers["content-type"]) == (201, "an-id", "application/json")
        assert parsed == {"Name": "a", "Description": ""}

    def test_status_and_headers_as_members(self) -> None:
        assert rendered("DeleteFunction", {"StatusCode": 204})[::2] == (204, {"StatusCode": 204})
        assert rendered("InvokeAsync", {"Status": 202})[0] == 202
        response = render.answer(
            OPERATIONS["Invoke"], {"StatusCode": 200, "ExecutedVersion": "1", "FunctionError": None, "Payload": b"{}"}, "an-id"
        )
        assert (response.headers["X-Amz-Executed-Version"], "X-Amz-Function-Error" in response.headers, response.body) == (
            "1",
            False,
            b"{}",
        )

    def test_no_content(self) -> None:
        assert rendered("TagResource", None) == (204, {"x-amzn-requestid": "an-id"}, {})

    def test_blobs_and_times(self) -> None:
        found = rendered("GetEventSourceMapping", {"LastModified": 1795255200.5})[2]
        assert found["LastModified"].timestamp() == 1795255200.5
        assert rendered("GetFunctionCodeSigningConfig", {})[2] == {}

    @pytest.mark.parametrize("result", [{"Nmae": "a"}, {"RoutingConfig": {"Weights": {}}}])
    def test_members_that_do_not_exist_are_our_mistake(self, result: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match="has no member"):
            render.answer(OPERATIONS["CreateAlias"], result, "an-id")

    @pytest.mark.parametrize(
        ("error", "status", "body"),
        [
            (ResourceNotFoundException("gone"), 404, b'{"Type":"User","Message":"gone"}'),
            (InvalidParameterValueException("bad"), 400, b'{"Type":"User","message":"bad"}'),
            (InvalidParameterValueException("bad", Type=None), 400, b'{"message":"bad"}'),
            (CodeSigningConfigNotFoundException("none"), 404, b'{"Type":"User","Message":"none"}'),
            (ServiceException(), 500, b'{"Type":"Service","Message":"The service encountered an internal error."}'),
            (ValidationException("1 validation error"), 400, b'{"message":"1 validation error"}'),
            (TooManyRequestsException("ConcurrentInvocationLimitExceeded", 1.2), 429, b'{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'),
        ],
    )  # fmt: skip
    def test_errors(self, error: ApiError, status: int, body: bytes) -> None:
        response = render.error(error, "an-id")
        assert isinstance(response, web.Response)
        assert (response.status, response.body, response.headers["x-amzn-ErrorType"], response.headers["x-amzn-RequestId"]) == (
            status,
            body,
            error.code,
            "an-id",
        )
        assert response.headers.get("Retry-After") == ("2" if status == 429 else None)

    def test_statuses_are_the_models_own(self) -> None:
        """Every error that we raise under AWS's name has AWS's status, but the one that a load balancer has to see as 503."""
        shapes = model.errors()
        kinds = {kind for kind in _subclasses(ApiError) if kind.code in shapes}
        assert {kind for kind in kinds if kind.status != shapes[kind.code].status} == {ShuttingDown}
        assert len({kind.code for kind in kinds}) >= 10


def _subclasses(kind: type[ApiError]) -> set[type[ApiError]]:
    found = set(kind.__subclasses__())
    return found.union(*map(_subclasses, found)) if found else found


def test_the_model_is_as_expected() -> None:
    """What the generic layer relies on: no greedy labels, all structures, a path for every operation."""
    assert len(OPERATIONS) >= 85
    for operation in OPERATIONS.values():
        assert not any(segment.endswith("+}") for segment in operation.segments)
        assert operation.input is None or isinstance(operation.input, botocore.model.StructureShape)
    assert (
        OPERATIONS["CreateFunction"].blobs
        == OPERATIONS["UpdateFunctionCode"].blobs
        == OPERATIONS["PublishLayerVersion"].blobs
        == ("ZipFile",)
    )
    assert OPERATIONS["Invoke"].blobs == OPERATIONS["CreateAlias"].blobs == ()
