# ruff: noqa: E501 (recorded texts are kept whole)
"""Provisioned concurrency over the wire with boto3, as AWS answered: recorded 24 and 25 November 2025.

Not validated against AWS: an alias of ``$LATEST``, and what is said of an alias whose new version cannot be provisioned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.records import FunctionVersion
from gateway.scheduler.provision import Standing, Status
from tests.wire.control_plane import ARN, Served, described, refused

UNPUBLISHED = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
NEITHER = "The function resource provided must be an alias or a published version."


@pytest.fixture
def standings(served: Served) -> Iterator[dict[str, Standing]]:
    """What the pool would say of each version."""
    found: dict[str, Standing] = {}

    async def watch(standing_of: Any) -> None:
        served.control.provisioned.watch(standing_of)

    def standing_of(version: FunctionVersion) -> Standing | None:
        return found.get(version.version)

    served.run(watch(standing_of))
    yield found
    served.run(watch(lambda version: None))


@pytest.fixture
def published(aws: Any, name: str) -> Iterator[str]:
    """A function with the versions 1 and 2, and the alias live of 1."""
    aws.create_function(FunctionName=name, **described())
    for _ in range(2):
        aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
        number = aws.publish_version(FunctionName=name)["Version"]
        aws.update_function_configuration(FunctionName=name, Description=f"after {number}")
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    yield name
    aws.delete_function(FunctionName=name)  # what it has set aside is the account's


def config(answer: dict[str, Any]) -> dict[str, Any]:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", answer["LastModified"])
    return {
        key.removesuffix("ProvisionedConcurrentExecutions"): value
        for key, value in answer.items()
        if key not in ("LastModified", "ResponseMetadata", "FunctionArn")
    }


def test_put_get_list_delete(aws: Any, published: str, standings: dict[str, Standing]) -> None:
    name = published
    put = aws.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=5)
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 202
    begun = {"Requested": 5, "Allocated": 0, "Available": 0, "Status": "IN_PROGRESS"}
    assert config(put) == begun
    got = aws.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    assert config(got) == begun
    standings["1"] = Standing(5, 5, 4, Status.READY)
    got = aws.get_provisioned_concurrency_config(FunctionName=f"{name}:1", Qualifier="1")
    assert config(got) == {"Requested": 5, "Allocated": 5, "Available": 4, "Status": "READY"}
    standings["1"] = Standing(5, 2, 2, Status.FAILED, "FUNCTION_ERROR_INIT_FAILURE")
    failed = {"Requested": 5, "Allocated": 2, "Available": 2, "Status": "FAILED", "StatusReason": "FUNCTION_ERROR_INIT_FAILURE"}
    (listed,) = aws.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    assert listed["FunctionArn"] == f"{ARN}{name}:1"
    assert config(listed) == failed
    gone = aws.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert aws.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"] == []


def test_lists_come_in_pages(aws: Any, published: str) -> None:
    for qualifier in ("2", "live"):
        aws.put_provisioned_concurrency_config(FunctionName=published, Qualifier=qualifier, ProvisionedConcurrentExecutions=1)
    first = aws.list_provisioned_concurrency_configs(FunctionName=published, MaxItems=1)
    second = aws.list_provisioned_concurrency_configs(FunctionName=published, MaxItems=1, Marker=first["NextMarker"])
    arns = [page["ProvisionedConcurrencyConfigs"][0]["FunctionArn"] for page in (first, second)]
    assert arns == [f"{ARN}{published}:2", f"{ARN}{published}:live"]
    assert "NextMarker" not in second


def test_what_there_is_not(aws: Any, published: str) -> None:
    put, get = aws.put_provisioned_concurrency_config, aws.get_provisioned_concurrency_config
    delete, listed = aws.delete_provisioned_concurrency_config, aws.list_provisioned_concurrency_configs
    one = {"ProvisionedConcurrentExecutions": 1}
    for call, more in ((put, one), (get, {}), (delete, {})):
        for function in (published, "doesnotexist"):
            found = refused(call, FunctionName=function, Qualifier="noalias", **more)
            assert (found["code"], found["http"]) == ("ResourceNotFoundException", 404)
            assert found["text"] == f"Cannot find alias arn: {ARN}{function}:noalias"
            assert (
                refused(call, FunctionName=function, Qualifier="10", **more)["text"] == f"Function not found: {ARN}{function}:10"
            )
    assert refused(put, FunctionName=published, Qualifier="$LATEST", **one)["text"] == UNPUBLISHED
    for call in (get, delete):
        found = refused(call, FunctionName=published, Qualifier="$LATEST")
        assert (found["code"], found["http"], found["text"]) == ("InvalidParameterValueException", 400, NEITHER)
    assert refused(get, FunctionName=published, Qualifier="1") == {
        "code": "ProvisionedConcurrencyConfigNotFoundException",
        "text": "No Provisioned Concurrency Config found for this function",
        "http": 404,
        "Type": "User",
        "message": "No Provisioned Concurrency Config found for this function",
    }
    assert delete(FunctionName=published, Qualifier="1")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(listed, FunctionName="doesnotexist")["text"] == f"Function not found: {ARN}doesnotexist"
    none = refused(put, FunctionName=published, Qualifier="1", ProvisionedConcurrentExecutions=0)
    assert none["text"] == (
        "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have "
        "value greater than or equal to 1"
    )


def test_a_version_is_provisioned_by_itself_or_through_one_alias(aws: Any, published: str) -> None:
    def put(qualifier: str) -> dict[str, Any]:
        return {"FunctionName": published, "Qualifier": qualifier, "ProvisionedConcurrentExecutions": 1}

    aws.put_provisioned_concurrency_config(**put("live"))
    found = refused(aws.put_provisioned_concurrency_config, **put("1"))
    assert (found["code"], found["http"]) == ("ResourceConflictException", 409)
    assert found["text"] == "Version is pointed by a Provisioned Concurrency alias"
    aws.put_provisioned_concurrency_config(**put("2"))
    aws.create_alias(FunctionName=published, Name="next", FunctionVersion="2")
    found = refused(aws.put_provisioned_concurrency_config, **put("next"))
    assert (found["code"], found["http"]) == ("ResourceConflictException", 409)
    assert found["text"] == "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
    aws.create_alias(FunctionName=published, Name="latest", FunctionVersion="$LATEST")
    assert refused(aws.put_provisioned_concurrency_config, **put("latest"))["text"] == UNPUBLISHED
    aws.delete_alias(FunctionName=published, Name="live")
    aws.put_provisioned_concurrency_config(**put("1"))


def test_it_counts_towards_what_is_reserved_and_what_the_account_has(aws: Any, published: str) -> None:
    def put(qualifier: str, count: int) -> dict[str, Any]:
        return {"FunctionName": published, "Qualifier": qualifier, "ProvisionedConcurrentExecutions": count}

    reserve = aws.put_function_concurrency
    reserve(FunctionName=published, ReservedConcurrentExecutions=3)
    aws.put_provisioned_concurrency_config(**put("1", 2))
    for qualifier, count in (("1", 4), ("2", 2)):
        found = refused(aws.put_provisioned_concurrency_config, **put(qualifier, count))
        assert (found["code"], found["http"]) == ("InvalidParameterValueException", 400)
        assert found["text"] == (
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
        )
    found = refused(reserve, FunctionName=published, ReservedConcurrentExecutions=1)
    assert (
        found["text"] == " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2]."
    )
    assert "Type" not in found
    aws.delete_function_concurrency(FunctionName=published)
    assert refused(aws.put_provisioned_concurrency_config, **put("2", 899))["text"] == (
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of "
        "[100]."
    )
    assert refused(aws.put_provisioned_concurrency_config, **put("2", 999))["text"] == (
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [998]."
    )
    assert config(aws.put_provisioned_concurrency_config(**put("2", 898)))["Requested"] == 898


def test_an_alias_moves_when_its_new_version_is_ready(
    aws: Any, published: str, served: Served, standings: dict[str, Standing]
) -> None:
    """What GetAlias says changes at once; what its invocations run does not."""

    def serving() -> str:
        function = served.control.catalog.get(published)
        assert function is not None
        alias = function.aliases["live"]
        return (alias.former or alias).version

    def status() -> dict[str, Any]:
        return config(aws.get_provisioned_concurrency_config(FunctionName=published, Qualifier="live"))

    aws.put_provisioned_concurrency_config(FunctionName=published, Qualifier="live", ProvisionedConcurrentExecutions=1)
    standings["1"] = Standing(1, 1, 1, Status.READY)
    aws.update_alias(FunctionName=published, Name="live", FunctionVersion="2")
    assert aws.get_alias(FunctionName=published, Name="live")["FunctionVersion"] == "2"
    assert serving() == "1"
    assert status() == {"Requested": 1, "Allocated": 1, "Available": 1, "Status": "IN_PROGRESS"}
    assert "reference it: [live]" in refused(aws.delete_function, FunctionName=published, Qualifier="1")["text"]
    standings["2"] = Standing(1, 0, 0, Status.FAILED, "FUNCTION_ERROR_INIT_FAILURE")
    served.run(_settled(served, published))
    assert serving() == "1"
    assert (status()["Status"], status()["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    standings["2"] = Standing(1, 1, 1, Status.READY)
    served.run(_settled(served, published))
    assert serving() == "2"
    assert status()["Status"] == "READY"
    aws.update_alias(FunctionName=published, Name="live", FunctionVersion="1")
    served.run(_settled(served, published))
    assert serving() == "1", "it was ready before"
    assert refused(aws.update_alias, FunctionName=published, Name="live", FunctionVersion="$LATEST")["text"] == UNPUBLISHED


async def _settled(served: Served, name: str) -> None:
    served.control.provisioned.settle(name)
    await served.control.provisioned.close()
