# ruff: noqa: E501 (recorded texts are kept whole)
"""Versions, aliases, function URLs, resource policies and tags over the wire with boto3, as AWS answered.

Recorded between November 2023 and January 2026; where a test says nothing else, on 25 November 2025. Not validated against AWS:
publishing after a change was taken back, the text for versions with different roles in an alias, the text for a policy that is
too long, the form of a URL's times, and which AllowCredentials AWS shows when none was given.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any, ClassVar

import pytest

from tests.wire.control_plane import ACCOUNT, ARN, REGION, Served, described, package, refused


def create(aws: Any, name: str, **more: Any) -> Any:
    answer = aws.create_function(FunctionName=name, **described(**more))
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
    return answer


def configure(aws: Any, name: str, **changes: Any) -> None:
    aws.update_function_configuration(FunctionName=name, **changes)
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})


def body(answer: Any) -> dict[str, Any]:
    """An answer without its metadata and its revision."""
    found = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
    if "RevisionId" in found:
        assert uuid.UUID(found.pop("RevisionId")).version == 4
    return found


def http(answer: Any) -> int:
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


class TestVersions:
    def test_publishing(self, aws: Any, name: str) -> None:
        """The same code and configuration are the same version; the description of a version is its own."""
        assert create(aws, name)["Version"] == "$LATEST"
        before = aws.get_function_configuration(FunctionName=name)["RevisionId"]
        first = aws.publish_version(FunctionName=name, Description="First version description :)")
        assert (http(first), first["Version"], first["FunctionArn"]) == (201, "1", f"{ARN}{name}:1")
        assert (first["State"], first["LastUpdateStatus"], first["Description"]) == (
            "Active",
            "Successful",
            "First version description :)",
        )
        assert aws.get_function_configuration(FunctionName=name)["RevisionId"] not in (before, first["RevisionId"])
        assert body(aws.get_function_configuration(FunctionName=name, Qualifier="1")) == body(first)
        configure(aws, name, Description="Second version :))")
        second = aws.publish_version(FunctionName=name)
        assert (second["Version"], second["Description"]) == ("2", "Second version :))")
        third = aws.publish_version(FunctionName=name, Description="ignored: nothing has changed")
        assert (body(third), third["RevisionId"]) == (body(second), second["RevisionId"])
        listed = aws.list_versions_by_function(FunctionName=name)["Versions"]
        assert [one["FunctionArn"] for one in listed] == [f"{ARN}{name}:{version}" for version in ("$LATEST", "1", "2")]
        assert "State" not in listed[0]

    def test_publishing_with_create(self, aws: Any, served: Served, name: str) -> None:
        with served.held():
            answer = aws.create_function(FunctionName=name, **described(Publish=True))
            assert (answer["Version"], answer["FunctionArn"], answer["State"]) == ("1", ARN + name, "Pending")
        aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
        first = aws.get_function_configuration(FunctionName=name, Qualifier="1")
        assert (first["State"], first["LastUpdateStatus"]) == ("Active", "Successful")
        assert aws.publish_version(FunctionName=name)["Version"] == "1"

    def test_publishing_with_an_update(self, aws: Any, served: Served, name: str) -> None:
        create(aws, name)
        with served.held():
            answer = aws.update_function_code(FunctionName=name, ZipFile=package({"a": "1"}), Publish=True)
            assert (answer["Version"], answer["FunctionArn"], answer["State"]) == ("1", f"{ARN}{name}:1", "Pending")
            assert "LastUpdateStatus" not in answer
            latest = aws.get_function(FunctionName=name, Qualifier="$LATEST")["Configuration"]
            assert (latest["State"], latest["LastUpdateStatus"], latest["FunctionArn"]) == (
                "Active",
                "InProgress",
                f"{ARN}{name}:$LATEST",
            )
            assert latest["RevisionId"] != answer["RevisionId"]
            assert latest["CodeSha256"] == answer["CodeSha256"]
        aws.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 0})
        aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
        same = aws.update_function_code(FunctionName=name, ZipFile=package({"a": "1"}), Publish=True)
        assert (same["Version"], same["State"]) == ("1", "Active")

    def test_a_version_never_changes(self, aws: Any, name: str) -> None:
        create(aws, name, Publish=True, Environment={"Variables": {"STAGE": "one"}})
        configure(aws, name, Environment={"Variables": {"STAGE": "two"}}, Timeout=60)
        published = aws.get_function_configuration(FunctionName=name, Qualifier="1")
        assert (published["Environment"]["Variables"], published["Timeout"]) == ({"STAGE": "one"}, 3)

    def test_publishing_only_what_the_caller_knows(self, aws: Any, name: str) -> None:
        sha256 = create(aws, name)["CodeSha256"]
        wrong = refused(aws.publish_version, FunctionName=name, CodeSha256="somenonexistentsha256")
        assert (wrong["code"], wrong["http"], wrong["Type"]) == ("InvalidParameterValueException", 400, "User")
        assert (
            wrong["text"]
            == f"CodeSHA256 (somenonexistentsha256) is different from current CodeSHA256 in $LATEST ({sha256}). Please try again with the CodeSHA256 in $LATEST."
        )
        assert aws.publish_version(FunctionName=name, CodeSha256=sha256)["Version"] == "1"

    def test_numbers_are_never_used_again(self, aws: Any, name: str) -> None:
        create(aws, name)
        for number in range(1, 12):
            configure(aws, name, Description=str(number))
            assert aws.publish_version(FunctionName=name)["Version"] == str(number)
        aws.delete_function(FunctionName=name, Qualifier="11")
        assert aws.publish_version(FunctionName=name)["Version"] == "12"
        listed = [
            one["Version"]
            for page in aws.get_paginator("list_versions_by_function").paginate(
                FunctionName=name, PaginationConfig={"PageSize": 5}
            )
            for one in page["Versions"]
        ]
        assert listed == ["$LATEST", *map(str, range(1, 11)), "12"]


class TestAliases:
    @pytest.fixture
    def function(self, aws: Any, name: str) -> str:
        """A function with two versions."""
        create(aws, name, Publish=True)
        configure(aws, name, Description="2")
        aws.publish_version(FunctionName=name)
        return name

    def test_the_life_of_an_alias(self, aws: Any, function: str) -> None:
        weights = {"AdditionalVersionWeights": {"2": 0.2}}
        created = aws.create_alias(
            FunctionName=function, Name="live", FunctionVersion="1", Description="custom-alias", RoutingConfig=weights
        )
        described_ = {"AliasArn": f"{ARN}{function}:live", "Name": "live", "FunctionVersion": "1", "Description": "custom-alias"}
        assert (http(created), body(created)) == (201, {**described_, "RoutingConfig": weights})
        assert body(aws.get_alias(FunctionName=function, Name="live")) == body(created)
        assert (
            aws.get_function(FunctionName=function, Qualifier="live")["Configuration"]["FunctionArn"] == f"{ARN}{function}:live"
        )
        assert aws.get_function(FunctionName=f"{ARN}{function}:live")["Configuration"]["Version"] == "1"
        aws.create_alias(FunctionName=function, Name="beta", FunctionVersion="2")
        empty = aws.create_alias(FunctionName=function, Name="empty", FunctionVersion="1", RoutingConfig={})
        assert body(empty) == {"AliasArn": f"{ARN}{function}:empty", "Name": "empty", "FunctionVersion": "1", "Description": ""}
        assert [one["Name"] for one in aws.list_aliases(FunctionName=function)["Aliases"]] == ["beta", "empty", "live"]
        assert [one["Name"] for one in aws.list_aliases(FunctionName=function, FunctionVersion="1")["Aliases"]] == [
            "empty",
            "live",
        ]
        updated = aws.update_alias(FunctionName=function, Name="live", RoutingConfig={})
        assert body(updated) == described_
        assert updated["RevisionId"] != created["RevisionId"]
        moved = aws.update_alias(FunctionName=function, Name="live", FunctionVersion="2", Description="")
        assert body(moved) == {**described_, "FunctionVersion": "2", "Description": ""}
        for _ in range(2):  # an alias that is not there can be deleted
            assert http(aws.delete_alias(FunctionName=function, Name="live")) == 204
        gone = refused(aws.get_alias, FunctionName=function, Name="live")
        assert (gone["code"], gone["text"], gone["Type"]) == (
            "ResourceNotFoundException",
            f"Cannot find alias arn: {ARN}{function}:live",
            "User",
        )

    @pytest.mark.parametrize(
        ("alias", "code", "text"),
        [
            ({"Name": "2024"}, "ValidationException", "1 validation error detected: Value '2024' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"),
            ({"RoutingConfig": {"AdditionalVersionWeights": {"1": 0.8, "2": 0.2}}}, "InvalidParameterValueException", "Number of items in AdditionalVersionWeights cannot be greater than 1"),
            ({"RoutingConfig": {"AdditionalVersionWeights": {"2": 2.0}}}, "ValidationException", "1 validation error detected: Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]"),
            ({"RoutingConfig": {"AdditionalVersionWeights": {"2": -1.0}}}, "ValidationException", "1 validation error detected: Value '{2=-1.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]"),
            ({"RoutingConfig": {"AdditionalVersionWeights": {"$LATEST": 0.5}}}, "ValidationException", "1 validation error detected: Value '{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]"),
            ({"RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}}, "InvalidParameterValueException", "Invalid function version 1. Function version 1 is already included in routing configuration."),
            ({"RoutingConfig": {"AdditionalVersionWeights": {"10": 0.5}}}, "ResourceNotFoundException", "Function not found: ARN:10"),
            ({"FunctionVersion": "10"}, "ResourceNotFoundException", "Function not found: ARN:10"),
            ({"FunctionVersion": "$LATEST", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}}, "InvalidParameterValueException", "$LATEST is not supported for an alias pointing to more than 1 version"),
            ({"FunctionName": "unknown"}, "ResourceNotFoundException", f"Function not found: {ARN}unknown:1"),
            ({"Name": "there"}, "ResourceConflictException", "Alias already exists: ARN:there"),
        ],
    )  # fmt: skip
    def test_what_create_alias_refuses(self, aws: Any, function: str, alias: dict[str, Any], code: str, text: str) -> None:
        aws.create_alias(FunctionName=function, Name="there", FunctionVersion="$LATEST")
        found = refused(aws.create_alias, **{"FunctionName": function, "Name": "custom", "FunctionVersion": "1", **alias})
        assert (found["code"], found["text"]) == (code, text.replace("ARN", ARN + function) if "ARN:" in text else text)

    def test_dates_are_names(self, aws: Any, function: str) -> None:
        assert aws.create_alias(FunctionName=function, Name="2024-01-02", FunctionVersion="1")["Name"] == "2024-01-02"

    def test_updating_an_alias_that_is_not_there_or_has_changed(self, aws: Any, function: str) -> None:
        missing = refused(aws.update_alias, FunctionName=function, Name="non-existent", Description="x")
        assert (missing["code"], missing["text"]) == (
            "ResourceNotFoundException",
            f"Alias not found: {ARN}{function}:non-existent",
        )
        revision = aws.create_alias(FunctionName=function, Name="live", FunctionVersion="1")["RevisionId"]
        aws.update_alias(FunctionName=function, Name="live", Description="x", RevisionId=revision)
        stale = refused(aws.update_alias, FunctionName=function, Name="live", Description="y", RevisionId=revision)
        assert (stale["code"], stale["http"]) == ("PreconditionFailedException", 412)

    def test_both_versions_have_the_same_role(self, aws: Any, function: str) -> None:
        configure(aws, function, Role=f"arn:aws:iam::{ACCOUNT}:role/another")
        aws.publish_version(FunctionName=function)
        routing = {"AdditionalVersionWeights": {"3": 0.5}}
        found = refused(aws.create_alias, FunctionName=function, Name="live", FunctionVersion="1", RoutingConfig=routing)
        assert found["code"] == "InvalidParameterValueException"


class TestUrls:
    def test_the_life_of_a_url(self, aws: Any, name: str) -> None:
        """Recorded 20 November 2023: only Get and List always say the InvokeMode."""
        create(aws, name)
        created = aws.create_function_url_config(FunctionName=name, AuthType="NONE")
        assert http(created) == 201
        assert set(created) == {"FunctionUrl", "FunctionArn", "AuthType", "CreationTime", "ResponseMetadata"}
        assert (created["FunctionArn"], created["AuthType"]) == (ARN + name, "NONE")
        url_id = re.fullmatch(r"http://([a-z0-9]{32})\.lambda-url\.us-east-1\.localhost:9000/", created["FunctionUrl"])
        assert url_id is not None
        twice = refused(aws.create_function_url_config, FunctionName=name, AuthType="NONE")
        assert (twice["code"], twice["http"]) == ("ResourceConflictException", 409)
        assert (
            twice["text"]
            == f"Failed to create function url config for [functionArn = {ARN}{name}]. Error message:  FunctionUrlConfig exists for this Lambda function"
        )
        got = body(aws.get_function_url_config(FunctionName=name))
        assert got.pop("LastModifiedTime") == got["CreationTime"]
        assert got == {**body(created), "InvokeMode": "BUFFERED"}
        updated = aws.update_function_url_config(FunctionName=name, AuthType="AWS_IAM")
        assert set(updated) == {"FunctionUrl", "FunctionArn", "AuthType", "CreationTime", "LastModifiedTime", "ResponseMetadata"}
        assert (updated["AuthType"], updated["FunctionUrl"]) == ("AWS_IAM", created["FunctionUrl"])
        assert [one["AuthType"] for one in aws.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]] == ["AWS_IAM"]
        assert http(aws.delete_function_url_config(FunctionName=name)) == 204
        for call in (aws.get_function_url_config, aws.delete_function_url_config):
            gone = refused(call, FunctionName=name)
            assert (gone["code"], gone["text"]) == ("ResourceNotFoundException", "The resource you requested does not exist.")

    def test_urls_of_aliases(self, aws: Any, name: str) -> None:
        """Recorded 24 November 2025: the URL outlives its alias."""
        create(aws, name, Publish=True)
        aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        created = aws.create_function_url_config(FunctionName=name, Qualifier="live", AuthType="NONE", InvokeMode="BUFFERED")
        assert (created["FunctionArn"], created["InvokeMode"]) == (f"{ARN}{name}:live", "BUFFERED")
        assert aws.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"] != created["FunctionUrl"]
        aws.delete_alias(FunctionName=name, Name="live")
        assert aws.get_function_url_config(FunctionName=name, Qualifier="live")["FunctionUrl"] == created["FunctionUrl"]
        assert [one["FunctionArn"] for one in aws.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]] == [
            ARN + name,
            f"{ARN}{name}:live",
        ]
        missing = refused(aws.create_function_url_config, FunctionName=name, Qualifier="nowhere", AuthType="NONE")
        assert (missing["code"], missing["text"]) == ("ResourceNotFoundException", "Function does not exist")

    @pytest.mark.parametrize("qualifier", ["$LATEST", "1", "2"])
    def test_no_urls_of_versions(self, aws: Any, name: str, qualifier: str) -> None:
        found = refused(aws.create_function_url_config, FunctionName=name, Qualifier=qualifier, AuthType="NONE")
        assert found["code"] == "ValidationException"
        assert (
            found["text"]
            == f"1 validation error detected: Value '{qualifier}' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: ((?!^\\d+$)^[0-9a-zA-Z-_]+$)"
        )

    def test_functions_that_are_not_there(self, aws: Any) -> None:
        for call in (aws.create_function_url_config, aws.update_function_url_config):
            assert refused(call, FunctionName="nobody", AuthType="NONE")["text"] == "Function does not exist"
        for call in (aws.delete_function_url_config, aws.list_function_url_configs):
            assert refused(call, FunctionName="nobody")["text"] == "Function does not exist"
        assert refused(aws.get_function_url_config, FunctionName="nobody")["text"] == "The resource you requested does not exist."

    def test_invoke_modes(self, aws: Any, name: str) -> None:
        create(aws, name)
        unknown = refused(aws.create_function_url_config, FunctionName=name, AuthType="NONE", InvokeMode="UNKNOWN")
        assert (
            unknown["text"]
            == "1 validation error detected: Value 'UNKNOWN' at 'invokeMode' failed to satisfy constraint: Member must satisfy enum value set: [RESPONSE_STREAM, BUFFERED]"
        )
        made = aws.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
        assert made["InvokeMode"] == "RESPONSE_STREAM"
        assert aws.update_function_url_config(FunctionName=name, InvokeMode="BUFFERED")["InvokeMode"] == "BUFFERED"
        assert aws.get_function_url_config(FunctionName=name)["InvokeMode"] == "BUFFERED"

    def test_cors(self, aws: Any, name: str) -> None:
        create(aws, name)
        cors = {
            "AllowOrigins": ["https://example.com", "*"],
            "AllowMethods": ["GET"],
            "AllowHeaders": ["x-a"],
            "ExposeHeaders": ["x-b"],
            "MaxAge": 0,
            "AllowCredentials": True,
        }
        assert aws.create_function_url_config(FunctionName=name, AuthType="NONE", Cors=cors)["Cors"] == cors
        aws.update_function_url_config(FunctionName=name, AuthType="AWS_IAM")
        assert aws.get_function_url_config(FunctionName=name)["Cors"] == cors
        assert aws.update_function_url_config(FunctionName=name, Cors={"AllowOrigins": ["*"]})["Cors"] == {"AllowOrigins": ["*"]}
        assert "Cors" not in aws.update_function_url_config(FunctionName=name, Cors={})
        too_many = refused(aws.update_function_url_config, FunctionName=name, Cors={"AllowMethods": ["GET"] * 7})
        assert too_many["code"] == "ValidationException"


class TestPolicies:
    S3: ClassVar = {"Action": "lambda:InvokeFunction", "StatementId": "s3", "Principal": "s3.amazonaws.com"}

    def test_permissions(self, aws: Any, name: str) -> None:
        """The order of a statement's members is from 2023, when AWS's answer was kept as it came."""
        create(aws, name)
        added = aws.add_permission(FunctionName=name, SourceArn="arn:aws:s3:::bucket", **self.S3)
        statement = {
            "Sid": "s3",
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "lambda:InvokeFunction",
            "Resource": ARN + name,
            "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}},
        }
        assert (http(added), added["Statement"]) == (201, json.dumps(statement, separators=(",", ":")))
        policy = aws.get_policy(FunctionName=name)
        assert json.loads(policy["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
        again = refused(aws.add_permission, FunctionName=name, **self.S3)
        assert (again["code"], again["text"]) == (
            "ResourceConflictException",
            "The statement id (s3) provided already exists. Please provide a new statement id, or remove the existing statement.",
        )
        aws.add_permission(FunctionName=name, **{**self.S3, "StatementId": "sqs"}, RevisionId=policy["RevisionId"])
        changed = aws.get_policy(FunctionName=name)
        assert changed["RevisionId"] != policy["RevisionId"]
        stale = refused(aws.remove_permission, FunctionName=name, StatementId="sqs", RevisionId=policy["RevisionId"])
        assert (stale["code"], stale["http"], stale["text"]) == (
            "PreconditionFailedException",
            412,
            "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id",
        )
        missing = refused(aws.remove_permission, FunctionName=name, StatementId="non-existent")
        assert (missing["code"], missing["text"]) == (
            "ResourceNotFoundException",
            "Statement non-existent is not found in resource policy.",
        )
        assert http(aws.remove_permission(FunctionName=name, StatementId="sqs")) == 204
        assert [one["Sid"] for one in json.loads(aws.get_policy(FunctionName=name)["Policy"])["Statement"]] == ["s3"]
        aws.remove_permission(FunctionName=name, StatementId="s3")
        assert refused(aws.get_policy, FunctionName=name)["text"] == "The resource you requested does not exist."
        assert (
            refused(aws.remove_permission, FunctionName=name, StatementId="s3")["text"]
            == "No policy is associated with the given resource."
        )

    def test_permissions_of_versions_and_aliases(self, aws: Any, name: str) -> None:
        create(aws, name, Publish=True)
        aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        aws.add_permission(FunctionName=name, **self.S3)
        assert refused(aws.get_policy, FunctionName=name, Qualifier="1")["text"] == "The resource you requested does not exist."
        revisions = {aws.get_policy(FunctionName=name)["RevisionId"]}
        for qualifier in ("1", "live"):
            aws.add_permission(FunctionName=name, Qualifier=qualifier, **self.S3)
            policy = aws.get_policy(FunctionName=f"{name}:{qualifier}")
            assert json.loads(policy["Policy"])["Statement"][0]["Resource"] == f"{ARN}{name}:{qualifier}"
            revisions.add(policy["RevisionId"])
        assert len(revisions) == 3
        stale = refused(
            aws.add_permission, FunctionName=name, Qualifier="live", **{**self.S3, "StatementId": "s2"}, RevisionId="wrong"
        )
        assert stale["code"] == "PreconditionFailedException"
        aws.delete_alias(FunctionName=name, Name="live")
        aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        assert refused(aws.get_policy, FunctionName=name, Qualifier="live")["http"] == 404

    @pytest.mark.parametrize(
        ("more", "code", "text"),
        [
            ({"FunctionName": "doesnotexist"}, "ResourceNotFoundException", f"Function not found: {ARN}doesnotexist"),
            ({"Qualifier": "alias-doesnotexist"}, "ResourceNotFoundException", "Cannot find alias arn: ARN:alias-doesnotexist"),
            ({"Qualifier": "42"}, "ResourceNotFoundException", "Function not found: ARN:42"),
            ({"Qualifier": "valid-with-$-but-doesnotexist"}, "ResourceNotFoundException", "Function not found: ARN:valid-with-$-but-doesnotexist"),
            ({"Qualifier": "$LATEST"}, "InvalidParameterValueException", "We currently do not support adding policies for $LATEST."),
            ({"Qualifier": "invalid-qualifier-with-?-char"}, "ValidationException", r"1 validation error detected: Value 'invalid-qualifier-with-?-char' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"),
            ({"StatementId": "example.com"}, "ValidationException", "1 validation error detected: Value 'example.com' at 'statementId' failed to satisfy constraint: Member must satisfy regular expression pattern: ([a-zA-Z0-9-_]+)"),
            ({"Principal": "invalid.nonaws.com"}, "InvalidParameterValueException", "The provided principal was invalid. Please check the principal and try again."),
            ({"Principal": "12345"}, "InvalidParameterValueException", "The provided principal was invalid. Please check the principal and try again."),
            ({"FunctionUrlAuthType": "NONE"}, "InvalidParameterValueException", "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"),
        ],
    )  # fmt: skip
    def test_what_add_permission_refuses(self, aws: Any, name: str, more: dict[str, Any], code: str, text: str) -> None:
        create(aws, name)
        found = refused(aws.add_permission, **{"FunctionName": name, **self.S3, **more})
        assert (found["code"], found["text"]) == (code, text.replace("ARN:", f"{ARN}{name}:") if " ARN:" in text else text)

    def test_what_remove_permission_refuses(self, aws: Any, name: str) -> None:
        create(aws, name)
        assert (
            refused(aws.remove_permission, FunctionName="doesnotexist", StatementId="s3")["text"]
            == f"No policy found for: {ARN}doesnotexist"
        )
        alias = refused(aws.remove_permission, FunctionName=name, StatementId="s3", Qualifier="alias-doesnotexist")
        assert alias["text"] == f"Cannot find alias arn: {ARN}{name}:alias-doesnotexist"
        for arguments in ({"FunctionName": "doesnotexist"}, {"FunctionName": name, "Qualifier": "42"}):
            assert refused(aws.get_policy, **arguments)["text"] == "The resource you requested does not exist."

    def test_principals_and_conditions(self, aws: Any, name: str) -> None:
        """The URL permission is recorded; the two that a NONE URL needs since October 2025 are in the developer guide."""
        create(aws, name)
        cases: list[tuple[dict[str, Any], Any, Any]] = [
            ({"Principal": "*", "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"}, "*", {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}),
            ({"Principal": "*", "InvokedViaFunctionUrl": True}, "*", {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
            ({"Principal": "111122223333"}, {"AWS": "arn:aws:iam::111122223333:root"}, None),
            ({"Principal": f"arn:aws:iam::{ACCOUNT}:role/some"}, {"AWS": f"arn:aws:iam::{ACCOUNT}:role/some"}, None),
            ({"Principal": "alexa-appkit.amazon.com", "EventSourceToken": "token"}, {"Service": "alexa-appkit.amazon.com"}, {"StringEquals": {"lambda:EventSourceToken": "token"}}),
            ({"SourceAccount": "111122223333", "SourceArn": "arn:aws:s3:::b"}, {"Service": "s3.amazonaws.com"}, {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}, "StringEquals": {"AWS:SourceAccount": "111122223333"}}),
            ({"Principal": "*", "PrincipalOrgID": "o-1234567890"}, "*", {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}),
        ]  # fmt: skip
        for number, (given, principal, condition) in enumerate(cases):
            answer = aws.add_permission(FunctionName=name, **{**self.S3, **given, "StatementId": f"s{number}"})
            statement = json.loads(answer["Statement"])
            assert (statement["Principal"], statement.get("Condition")) == (principal, condition)

    def test_a_policy_has_a_limit(self, aws: Any, name: str) -> None:
        create(aws, name)
        more = {**self.S3, "SourceArn": "arn:aws:s3:::" + "b" * 900}
        statement = aws.add_permission(FunctionName=name, **more)["Statement"]
        for number in range(20_480 // len(statement) - 1):
            aws.add_permission(FunctionName=name, **{**more, "StatementId": f"{number:02}"})
        found = refused(aws.add_permission, FunctionName=name, **{**more, "StatementId": "one-more"})
        assert (found["code"], found["http"]) == ("PolicyLengthExceededException", 400)
        assert re.fullmatch(r"The final policy size \((20[5-9]|21\d)\d\d\) is bigger than the limit \(20480\)\.", found["text"])


class TestTags:
    def test_the_life_of_tags(self, aws: Any, name: str) -> None:
        arn = create(aws, name, Tags={"testtag": "custom"})["FunctionArn"]
        assert aws.get_function(FunctionName=name)["Tags"] == aws.list_tags(Resource=arn)["Tags"] == {"testtag": "custom"}
        assert http(aws.tag_resource(Resource=arn, Tags={"A": "a", "B": "b"})) == 204
        aws.tag_resource(Resource=arn, Tags={"B": "new", "C": "Größe @ +-=._:/"})
        assert aws.list_tags(Resource=arn)["Tags"] == {"testtag": "custom", "A": "a", "B": "new", "C": "Größe @ +-=._:/"}
        assert http(aws.untag_resource(Resource=arn, TagKeys=["A", "C", "never"])) == 204
        aws.untag_resource(Resource=arn, TagKeys=["B", "testtag"])
        assert aws.list_tags(Resource=arn)["Tags"] == {}
        assert "Tags" not in aws.get_function(FunctionName=name)

    def test_tags_have_a_limit(self, aws: Any, name: str) -> None:
        arn = create(aws, name, Tags={f"{number}_key": "value" for number in range(50)})["FunctionArn"]
        found = refused(aws.tag_resource, Resource=arn, Tags={"one_more": "value"})
        assert (found["code"], found["text"]) == ("InvalidParameterValueException", "Number of tags exceeds resource tag limit.")
        aws.tag_resource(Resource=arn, Tags={"1_key": "changed"})

    def test_what_is_refused(self, aws: Any, name: str) -> None:
        arn = create(aws, name)["FunctionArn"]
        assert (
            refused(aws.tag_resource, Resource=arn, Tags={})["text"] == "An error occurred and the request cannot be processed."
        )
        assert (
            refused(aws.untag_resource, Resource=arn, TagKeys=[])["text"]
            == "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"
        )
        assert (
            refused(aws.tag_resource, Resource=f"{arn}:alias", Tags={"a": "b"})["text"]
            == "Tags on function aliases and versions are not supported. Please specify a function ARN."
        )
        assert refused(aws.tag_resource, Resource=arn, Tags={"a": "<b>"})["code"] == "ValidationException"
        nobody = f"{ARN}doesnotexist"
        for found in (
            refused(aws.list_tags, Resource=nobody),
            refused(aws.tag_resource, Resource=nobody, Tags={"a": "b"}),
            refused(aws.untag_resource, Resource=nobody, TagKeys=["a"]),
        ):
            assert found["text"] == f"Function not found: {nobody}"
        mapping = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:12345678-1234-1234-1234-123456789012"
        assert refused(aws.list_tags, Resource=mapping)["text"] == f"Event source mapping not found: {mapping}"
        wrong = refused(aws.tag_resource, Resource="arn:aws:something", Tags={"a": "b"})
        beginning = r"1 validation error detected: Value 'arn:aws:something' at 'resource' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|"
        assert wrong["text"].startswith(beginning)  # AWS has added resources since it was recorded
