"""Layers as boto3 sees them: what is recorded from AWS, and what a function does with them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import stat
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.real.archives import archive, bomb, link, through_a_link
from tests.wire.control_plane import ACCOUNT, REGION, Served, described, package, refused

LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:"
CONTENT = package({"python/of_layer.py": "x = 1\n"})


def publish(aws: Any, name: str, content: bytes = CONTENT, **more: Any) -> Any:
    return aws.publish_layer_version(LayerName=name, Content={"ZipFile": content}, **more)


def active(aws: Any, name: str, **more: Any) -> None:
    aws.create_function(FunctionName=name, **described(**more))
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})


def layers_of(aws: Any, name: str, **more: Any) -> list[str]:
    return [one["Arn"] for one in aws.get_function_configuration(FunctionName=name, **more).get("Layers", [])]


def test_the_life_of_a_layer(aws: Any, name: str) -> None:
    """Members as recorded 25 November 2025."""
    first = publish(aws, name, CompatibleRuntimes=[], CompatibleArchitectures=["x86_64"])
    assert first.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", first.pop("CreatedDate"))
    location = first["Content"].pop("Location")
    assert first == {
        "CompatibleArchitectures": ["x86_64"],
        "CompatibleRuntimes": [],
        "Content": {"CodeSha256": base64.b64encode(hashlib.sha256(CONTENT).digest()).decode(), "CodeSize": len(CONTENT)},
        "Description": "",
        "LayerArn": LAYER + name,
        "LayerVersionArn": f"{LAYER}{name}:1",
        "Version": 1,
    }
    with urllib.request.urlopen(location) as answer:
        assert answer.read() == CONTENT
    more: dict[str, Any] = {"Description": "two", "LicenseInfo": "MIT", "CompatibleRuntimes": ["python3.12"]}
    second = publish(aws, LAYER + name, **more)
    assert {key: second[key] for key in ("Version", *more)} == {"Version": 2, **more}
    for found in (
        aws.get_layer_version(LayerName=name, VersionNumber=2),
        aws.get_layer_version_by_arn(Arn=f"{LAYER}{name}:2"),
    ):
        assert found["LayerVersionArn"] == second["LayerVersionArn"]
        assert found["Content"]["CodeSha256"] == second["Content"]["CodeSha256"]
    listed = aws.list_layer_versions(LayerName=name)["LayerVersions"]
    assert [one["Version"] for one in listed] == [2, 1]
    assert "Content" not in listed[0]
    answer = aws.delete_layer_version(LayerName=name, VersionNumber=2)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    aws.delete_layer_version(LayerName=name, VersionNumber=2)  # once more is no error
    assert publish(aws, name)["Version"] == 3  # no number is given twice
    gone = refused(aws.get_layer_version, LayerName=name, VersionNumber=2)
    assert (gone["code"], gone["http"], gone["text"]) == (
        "ResourceNotFoundException",
        404,
        "The resource you requested does not exist.",
    )


def test_lists(aws: Any, name: str) -> None:
    def shown(**filters: Any) -> dict[str, int]:
        pages = aws.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1}, **filters)
        layers = [layer for one in pages for layer in one["Layers"]]
        return {one["LayerName"]: one["LatestMatchingVersion"]["Version"] for one in layers if one["LayerName"].startswith(name)}

    publish(aws, f"{name}-a", CompatibleRuntimes=["python3.12"], CompatibleArchitectures=["arm64"])
    publish(aws, f"{name}-a", CompatibleRuntimes=["python3.13"])
    publish(aws, f"{name}-b")
    publish(aws, f"{name}-c")
    aws.delete_layer_version(LayerName=f"{name}-c", VersionNumber=1)
    assert shown() == {f"{name}-a": 2, f"{name}-b": 1}
    assert shown(CompatibleRuntime="python3.12") == {f"{name}-a": 1}
    assert shown(CompatibleRuntime="python3.13", CompatibleArchitecture="arm64") == {}
    pages = list(aws.get_paginator("list_layer_versions").paginate(LayerName=f"{name}-a", PaginationConfig={"PageSize": 1}))
    assert [one["Version"] for found in pages for one in found["LayerVersions"]] == [2, 1]
    assert aws.list_layer_versions(LayerName="doesnotexist")["LayerVersions"] == []


def test_a_function_with_layers(aws: Any, name: str) -> None:
    arns = [publish(aws, f"{name}-{letter}")["LayerVersionArn"] for letter in "abcde"]
    active(aws, name, Layers=arns[:2])
    found = aws.get_function(FunctionName=name)["Configuration"]["Layers"]
    assert found == [{"Arn": arn, "CodeSize": len(CONTENT)} for arn in arns[:2]]

    def update(**more: Any) -> None:
        aws.update_function_configuration(FunctionName=name, **more)
        aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})

    aws.publish_version(FunctionName=name)
    update(Layers=arns[::-1])
    assert layers_of(aws, name) == arns[::-1]
    aws.delete_layer_version(LayerName=f"{name}-a", VersionNumber=1)
    update(Description="layers stay where none are given")
    assert layers_of(aws, name) == arns[::-1]
    again = refused(aws.update_function_configuration, FunctionName=name, Layers=arns[:1])
    assert (again["code"], again["text"]) == ("InvalidParameterValueException", f"Layer version {arns[0]} does not exist.")
    update(Layers=[])
    assert layers_of(aws, name) == []
    assert "Layers" not in aws.get_function_configuration(FunctionName=name)
    assert layers_of(aws, name, Qualifier="1") == arns[:2]


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        (["doesnotexist:1"], "InvalidParameterValueException", "Layer version {0} does not exist."),
        (["some:9"], "InvalidParameterValueException", "Layer version {0} does not exist."),
        ([f"l{number}:1" for number in range(6)], "InvalidParameterValueException", "Cannot reference more than 5 layers."),
        (
            ["some:1", "some:2", "some:1"],
            "InvalidParameterValueException",
            (
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                "{0} and {1} are versions of the same layer."
            ),
        ),
        (
            [f"arn:aws:lambda:eu-west-1:{ACCOUNT}:layer:some:1"],
            "InvalidParameterValueException",
            f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}.",
        ),
        (
            [f"arn:aws:lambda:{REGION}:017000801446:layer:AWSLambdaPowertoolsPythonV3:1"],
            "AccessDeniedException",
            (
                f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:GetLayerVersion on resource: {{0}} "
                "because no resource-based policy allows the lambda:GetLayerVersion action"
            ),
        ),
    ],
    ids=["no-layer", "no-version", "six", "twice", "region", "account"],
)
def test_layers_that_a_function_cannot_have(aws: Any, name: str, asked: list[str], code: str, text: str) -> None:
    """Texts recorded 25 November 2025; that of another account is as AWS's IAM writes it."""
    while len(aws.list_layer_versions(LayerName="some")["LayerVersions"]) < 2:
        publish(aws, "some")
    arns = [one if one.startswith("arn:") else LAYER + one for one in asked]
    found = refused(aws.create_function, FunctionName=name, **described(Layers=arns))
    assert (found["code"], found["text"]) == (code, text.format(*arns))
    assert refused(aws.get_function, FunctionName=name)["code"] == "ResourceNotFoundException"


def test_an_arn_without_version(aws: Any, name: str) -> None:
    """Recorded."""
    found = refused(aws.create_function, FunctionName=name, **described(Layers=[LAYER + "some"]))
    assert found["code"] == "ValidationException"
    assert f"Value '[{LAYER}some]' at 'layers' failed to satisfy constraint" in found["text"]
    found = refused(aws.get_layer_version_by_arn, Arn=LAYER + "some")
    assert found["code"] == "ValidationException"
    assert f"Value '{LAYER}some' at 'arn' failed to satisfy constraint" in found["text"]


@pytest.mark.parametrize("operation", ["get_layer_version", "delete_layer_version"])
def test_no_version_0(aws: Any, operation: str) -> None:
    """Recorded."""
    found = refused(getattr(aws, operation), LayerName="some", VersionNumber=0)
    assert (found["code"], found["text"]) == ("InvalidParameterValueException", "Layer Version Cannot be less than 1")


UNZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (lambda: b"no zip", UNZIP),
        (lambda: b"", "Uploaded file must be a non-empty zip"),
        (lambda: archive(("/etc/passwd", "evil")), UNZIP),
        (lambda: archive(("python/../../evil", "evil")), UNZIP),
        (lambda: link("/etc/passwd"), UNZIP),
        (lambda: link("../../secret"), UNZIP),
        (lambda: through_a_link("/tmp", "evil"), UNZIP),
        (lambda: archive(("device", ""), kind=stat.S_IFCHR), UNZIP),
        (lambda: bomb(251), "Unzipped size must be smaller than 262144000 bytes"),
    ],
    ids=["no-zip", "empty", "absolute", "zip-slip", "link-out", "relative-link-out", "through-link", "device", "bomb"],
)
def test_layers_that_nobody_should_unpack(aws: Any, name: str, content: Callable[[], bytes], text: str) -> None:
    found = refused(publish, aws=aws, name=name, content=content())
    assert (found["code"], found["http"]) == ("InvalidParameterValueException", 400)
    assert found["text"].startswith(text)
    assert aws.list_layer_versions(LayerName=name)["LayerVersions"] == []


def test_wrong_things_in_a_layer(aws: Any, name: str) -> None:
    found = refused(publish, aws=aws, name=name, CompatibleArchitectures=["mips"])
    assert found["code"] == "ValidationException"
    assert "compatibleArchitectures" in found["text"]
    found = refused(aws.publish_layer_version, LayerName=name, Content={})
    assert (found["code"], found["text"]) == ("InvalidParameterValueException", "Missing Content")


def test_together_no_more_than_250_mb(aws: Any, name: str) -> None:
    """Texts as users have quoted them."""
    big = [publish(aws, f"{name}-{mb}", bomb(mb))["LayerVersionArn"] for mb in (130, 131)]
    found = refused(aws.create_function, FunctionName=name, **described(Layers=big))
    text = "Layers consume more than the available size of 262144000 bytes"
    assert (found["code"], found["text"]) == ("InvalidParameterValueException", text)
    text = "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. "
    text += f"The actual size is {(130 + 125) << 20} bytes."
    code = {"ZipFile": bomb(125)}
    found = refused(aws.create_function, FunctionName=name, **described(Layers=big[:1], Code=code))
    assert (found["code"], found["text"]) == ("InvalidParameterValueException", text)
    active(aws, name, Code=code)
    found = refused(aws.update_function_configuration, FunctionName=name, Layers=big[:1])
    assert found["text"] == text
    aws.update_function_code(FunctionName=name, ZipFile=package())
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
    aws.update_function_configuration(FunctionName=name, Layers=big[:1])
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
    assert refused(aws.update_function_code, FunctionName=name, **code)["text"] == text


def test_policies(aws: Any, name: str) -> None:
    arn = publish(aws, name)["LayerVersionArn"]
    ref = {"LayerName": name, "VersionNumber": 1}
    allowed = {"Action": "lambda:GetLayerVersion", **ref}
    assert refused(aws.get_layer_version_policy, **ref)["text"] == "No policy is associated with the given resource."
    added = aws.add_layer_version_permission(StatementId="all", Principal="*", OrganizationId="o-1234567890", **allowed)
    assert added["ResponseMetadata"]["HTTPStatusCode"] == 201
    statement = {
        "Sid": "all",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:GetLayerVersion",
        "Resource": arn,
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}},
    }
    assert json.loads(added["Statement"]) == statement
    twice = refused(aws.add_layer_version_permission, StatementId="all", Principal="*", **allowed)
    assert (twice["code"], twice["http"]) == ("ResourceConflictException", 409)
    stale = refused(aws.add_layer_version_permission, StatementId="b", Principal="*", RevisionId="wrong", **allowed)
    assert (stale["code"], stale["text"]) == (
        "PreconditionFailedException",
        (
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetLayerPolicy API to retrieve the latest Revision Id"
        ),
    )
    aws.add_layer_version_permission(StatementId="b", Principal="111122223333", RevisionId=added["RevisionId"], **allowed)
    policy = aws.get_layer_version_policy(**ref)
    assert json.loads(policy["Policy"])["Statement"] == [
        statement,
        {
            "Sid": "b",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
            "Action": "lambda:GetLayerVersion",
            "Resource": arn,
        },
    ]
    assert refused(aws.remove_layer_version_permission, StatementId="c", **ref)["code"] == "ResourceNotFoundException"
    aws.remove_layer_version_permission(StatementId="all", **ref)
    assert [one["Sid"] for one in json.loads(aws.get_layer_version_policy(**ref)["Policy"])["Statement"]] == ["b"]
    none = refused(aws.get_layer_version_policy, LayerName=name, VersionNumber=2)
    assert none["text"] == f"Layer version {LAYER}{name}:2 does not exist."


def test_counted_in_the_account(aws: Any, name: str) -> None:
    def used() -> int:
        total: int = aws.get_account_settings()["AccountUsage"]["TotalCodeSize"]
        return total

    before = used()
    publish(aws, name)
    assert used() == before + len(CONTENT)


def test_a_restart(tmp_path: Path) -> None:
    """Layers, policies, numbers and the merged tree are there again, that of a deleted version too; what nobody needs is not.
    After one in another region functions keep their layers, which are none of that region."""

    def zipped(**files: str) -> bytes:
        found = io.BytesIO()
        with zipfile.ZipFile(found, "w") as opened:
            for name, text in files.items():
                opened.writestr(f"python/{name}.py", text)
        return found.getvalue()

    def client(served: Served) -> Any:
        return boto3.client(
            "lambda", endpoint_url=served.endpoint, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b"
        )

    served = Served(tmp_path)
    aws = client(served)
    arns = [publish(aws, "one", zipped(a="1", b="1"))["LayerVersionArn"], publish(aws, "two", zipped(b="2"))["LayerVersionArn"]]
    publish(aws, "unused", zipped(c="3"))
    aws.add_layer_version_permission(
        LayerName="two", VersionNumber=1, StatementId="s", Action="lambda:GetLayerVersion", Principal="*"
    )
    active(aws, "f", Layers=arns)
    for layer in ("one", "unused"):
        aws.delete_layer_version(LayerName=layer, VersionNumber=1)
    aws.close()
    served.close()
    served = Served(tmp_path)
    try:
        aws = client(served)
        assert layers_of(aws, "f") == arns
        assert publish(aws, "one", zipped(d="4"))["Version"] == 2
        assert json.loads(aws.get_layer_version_policy(LayerName="two", VersionNumber=1)["Policy"])["Statement"][0]["Sid"] == "s"
        function = served.control.catalog.get("f")
        assert function is not None
        opt = Path(served.control.code.path(function.latest.opt_key)) / "python"
        assert {one.name: one.read_text() for one in opt.iterdir()} == {"a.py": "1", "b.py": "2"}
        assert len(list((tmp_path / "code").iterdir())) == 4  # the function, the tree, the layer two, the layer one anew
        assert served.control.layer(arns[1]) is not None
        aws.close()
    finally:
        served.close()
    served = Served(tmp_path, region="eu-west-1")
    try:
        aws = client(served)
        assert layers_of(aws, "f") == arns
        assert [served.control.layer(arn) for arn in arns] == [None, None]
        aws.close()
    finally:
        served.close()
