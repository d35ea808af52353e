# ruff: noqa: E501 (recorded texts are kept whole)
"""Functions over the wire with boto3: what AWS answered in the same situations, recorded between November 2025 and January 2026.

Compared are the members, their values and the texts; ids, dates, sizes and hashes by their form only. Not validated against AWS:
the order of several faults in one request, the texts for an empty package and for S3 as a source, page sizes, the time in
LastModified, DryRun's states, and that a redundant update keeps the generation.
"""

from __future__ import annotations

import base64
import hashlib
import io
import random
import re
import urllib.error
import urllib.request
import uuid
import zipfile
from typing import Any

import pytest

from sandbox.platform_lines import runtime_version
from tests.wire.control_plane import ACCOUNT, ARN, REGION, ROLE, SOURCE, Served, described, package, refused

CREATING = {"State": "Pending", "StateReason": "The function is being created.", "StateReasonCode": "Creating"}
UPDATING = {
    "State": "Active",
    "LastUpdateStatus": "InProgress",
    "LastUpdateStatusReason": "The function is being created.",
    "LastUpdateStatusReasonCode": "Creating",
}
SETTLED = {"State": "Active", "LastUpdateStatus": "Successful"}


def configuration(name: str, **more: Any) -> dict[str, Any]:
    """FunctionConfiguration of a function with nothing but defaults, as recorded from AWS on 25 November 2025."""
    return {
        "FunctionName": name,
        "FunctionArn": ARN + name,
        "Runtime": "python3.12",
        "Role": ROLE,
        "Handler": "index.handler",
        "CodeSize": len(package()),
        "CodeSha256": base64.b64encode(hashlib.sha256(package()).digest()).decode(),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
        "RuntimeVersionConfig": {"RuntimeVersionArn": "<arn>"},
        **more,
    }


def plain(answer: Any) -> dict[str, Any]:
    """An answer without what differs each time, the form of which is checked instead."""
    found = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
    assert uuid.UUID(found.pop("RevisionId")).version == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", found.pop("LastModified"))
    if "RuntimeVersionConfig" in found:
        arn = found["RuntimeVersionConfig"]["RuntimeVersionArn"]
        assert re.fullmatch(rf"arn:aws:lambda:{REGION}::runtime:[0-9a-f]{{64}}", arn)
        assert arn == runtime_version(found["Runtime"], REGION)[1], "as the function's log says it"
        found["RuntimeVersionConfig"] = {"RuntimeVersionArn": "<arn>"}
    return found


def create(aws: Any, name: str, **more: Any) -> Any:
    """A function that is Active."""
    answer = aws.create_function(FunctionName=name, **described(**more))
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
    return answer


def settled(aws: Any, name: str) -> None:
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})


def test_the_life_of_a_function(aws: Any, served: Served, name: str) -> None:
    """Recorded 25 November 2025: members at each step; revisions differ at each."""
    given = {"Environment": {"Variables": {}}, "MemorySize": 256, "Timeout": 5}
    with served.held():
        created = aws.create_function(FunctionName=name, **described(**given))
        assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
        assert plain(created) == configuration(name, **given, **CREATING)
        assert plain(aws.get_function_configuration(FunctionName=name)) == configuration(name, **given, **CREATING)
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
    active = aws.get_function(FunctionName=name)
    assert set(active) == {"Configuration", "Code", "ResponseMetadata"}
    assert active["Code"]["RepositoryType"] == "S3"
    assert plain(active["Configuration"]) == configuration(name, **given, **SETTLED)

    wanted = {
        "MemorySize": 512,
        "Timeout": 10,
        "Description": "changed",
        "Environment": {"Variables": {"ENV_A": "a"}},
        "Runtime": "python3.11",
    }
    with served.held():
        updated = aws.update_function_configuration(FunctionName=name, **wanted)
        assert plain(updated) == configuration(name, **wanted, **UPDATING)
    settled(aws, name)
    reconfigured = aws.get_function_configuration(FunctionName=name)
    assert plain(reconfigured) == configuration(name, **wanted, **SETTLED)

    code = package({"index.py": SOURCE + "# 2\n"})
    of_code = {"CodeSize": len(code), "CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode()}
    with served.held():
        recoded = aws.update_function_code(FunctionName=name, ZipFile=code)
        assert plain(recoded) == configuration(name, **wanted, **UPDATING, **of_code)
    settled(aws, name)
    last = aws.get_function_configuration(FunctionName=name)
    assert plain(last) == configuration(name, **wanted, **SETTLED, **of_code)
    revisions = [one["RevisionId"] for one in (created, active["Configuration"], updated, reconfigured, recoded, last)]
    assert len(set(revisions)) == 6

    deleted = aws.delete_function(FunctionName=name)
    assert deleted["StatusCode"] == deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    again = refused(aws.delete_function, FunctionName=name)
    text = f"Function not found: {ARN}{name}"
    assert again == {"code": "ResourceNotFoundException", "http": 404, "text": text, "Message": text, "Type": "User"}


@pytest.mark.parametrize(
    "operation",
    [
        "get_function",
        "get_function_configuration",
        "delete_function",
        "get_function_code_signing_config",
        "get_function_concurrency",
        "get_function_recursion_config",
        "list_versions_by_function",
        "list_aliases",
    ],
)
def test_no_such_function(aws: Any, operation: str) -> None:
    """Recorded 25 November 2025, but for the lists."""
    found = refused(getattr(aws, operation), FunctionName="nobody")
    assert (found["code"], found["text"], found["Type"]) == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}nobody",
        "User",
    )


@pytest.mark.parametrize("operation", ["get_function", "get_function_configuration"])
def test_no_such_version(aws: Any, name: str, operation: str) -> None:
    create(aws, name)
    for qualifier in ("1221", "nowhere"):
        found = refused(getattr(aws, operation), FunctionName=name, Qualifier=qualifier)
        assert found["text"] == f"Function not found: {ARN}{name}:{qualifier}"


def test_every_form_of_a_name(aws: Any, name: str) -> None:
    create(aws, name, Publish=True)
    forms = (name, f"function:{name}", f"{ACCOUNT}:function:{name}", ARN + name)
    for form in forms:
        assert aws.get_function_configuration(FunctionName=form)["FunctionArn"] == ARN + name
        assert aws.get_function_configuration(FunctionName=f"{form}:1")["FunctionArn"] == f"{ARN}{name}:1"
        assert aws.get_function_configuration(FunctionName=form, Qualifier="$LATEST")["FunctionArn"] == f"{ARN}{name}:$LATEST"
    mismatch = refused(aws.get_function, FunctionName=f"{ARN}{name}:1", Qualifier="2")
    assert mismatch["text"] == "The derived qualifier from the function name does not match the specified qualifier."
    assert (mismatch["code"], mismatch["http"], mismatch["message"]) == ("InvalidParameterValueException", 400, mismatch["text"])
    elsewhere = refused(aws.get_function, FunctionName=(ARN + name).replace(REGION, "ap-southeast-1"))
    assert elsewhere["text"] == f"Functions from 'ap-southeast-1' are not reachable in this region ('{REGION}')"
    assert elsewhere["code"] == "ResourceNotFoundException"


def test_changes_while_one_is_in_progress(aws: Any, served: Served, name: str) -> None:
    """Recorded 25 November 2025. Deleting is possible all the same, and what is made anew is not taken for the old one."""
    text = f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}{name}"
    with served.held():
        aws.create_function(FunctionName=name, **described())
        for found in (
            refused(aws.update_function_code, FunctionName=name, ZipFile=package()),
            refused(aws.update_function_configuration, FunctionName=name, Timeout=4),
            refused(aws.publish_version, FunctionName=name),
        ):
            assert (found["code"], found["http"], found["text"], found["Type"]) == (
                "ResourceConflictException",
                409,
                text,
                "User",
            )
        aws.delete_function(FunctionName=name)
        aws.create_function(FunctionName=name, **described(Timeout=9))
        assert aws.get_function_configuration(FunctionName=name)["State"] == "Pending"
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0})
    assert aws.get_function_configuration(FunctionName=name)["Timeout"] == 9


def test_an_update_that_changes_nothing(aws: Any, served: Served, name: str) -> None:
    """Recorded 25 November 2025: another revision each time. Our own: no other generation, so that sandboxes are kept."""
    create(aws, name, Description="first")
    revisions, generations = [], []
    for description in ("second", "second"):
        updated = aws.update_function_configuration(FunctionName=name, Description=description)
        settled(aws, name)
        revisions += [updated["RevisionId"], aws.get_function_configuration(FunctionName=name)["RevisionId"]]
        function = served.control.catalog.get(name)
        assert function is not None
        generations.append(function.latest.generation)
    assert len(set(revisions)) == 4
    assert generations[0] == generations[1]


def test_revisions_guard_changes(aws: Any, name: str) -> None:
    """Recorded 25 November 2025."""
    text = (
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest "
        "Revision Id"
    )
    old = create(aws, name)["RevisionId"]
    for found in (
        refused(aws.update_function_code, FunctionName=name, ZipFile=package(), RevisionId=old),
        refused(aws.update_function_configuration, FunctionName=name, Timeout=4, RevisionId=old),
        refused(aws.publish_version, FunctionName=name, RevisionId=old),
    ):
        assert (found["code"], found["http"], found["text"], found["message"]) == ("PreconditionFailedException", 412, text, text)
    current = aws.get_function_configuration(FunctionName=name)["RevisionId"]
    assert aws.update_function_configuration(FunctionName=name, Timeout=4, RevisionId=current)["Timeout"] == 4


def test_a_function_exists_once(aws: Any, name: str) -> None:
    create(aws, name)
    found = refused(aws.create_function, FunctionName=name, **described())
    assert (found["code"], found["http"], found["text"]) == ("ResourceConflictException", 409, f"Function already exist: {name}")


RUNTIME_SET = (
    "[nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, java25, python3.10, python3.11, "
    "java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9, java17, nodejs16.x, dotnet10, dotnet8, java11, dotnet6, nodejs18.x, "
    "provided.al2, java8.al2"
)


@pytest.mark.parametrize("runtime", ["non-existent-runtime", "PYTHON3.9"])
def test_unknown_runtimes(aws: Any, name: str, runtime: str) -> None:
    """Recorded 12 January 2026; what AWS has added since stands behind what it had then."""
    create(aws, name)
    for found in (
        refused(aws.create_function, FunctionName="other", **described(Runtime=runtime)),
        refused(aws.update_function_configuration, FunctionName=name, Runtime=runtime),
    ):
        assert found["code"] == "InvalidParameterValueException"
        beginning = (
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: {RUNTIME_SET}"
        )
        assert found["text"].startswith(beginning)
        assert found["text"].endswith("] or be a valid ARN")


@pytest.mark.parametrize(
    "runtime", ["dotnetcore3.1", "go1.x", "java8", "nodejs12.x", "nodejs14.x", "provided", "python3.7", "ruby2.7"]
)
def test_runtimes_that_are_no_more(aws: Any, runtime: str) -> None:
    """Recorded 2025."""
    found = refused(aws.create_function, FunctionName="other", **described(Runtime=runtime))
    assert (found["code"], found["text"]) == (
        "InvalidParameterValueException",
        f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.",
    )


ENVIRONMENT_UNABLE = (
    "Lambda was unable to configure your environment variables because the environment variables you have provided "
)

FAULTS = [
    (
        {"Role": "r1"},
        "ValidationException",
        r"1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    ),
    (
        {"Architectures": ["x86_64", "arm64"]},
        "ValidationException",
        "1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1",
    ),
    (
        {"Architectures": ["X86_64"]},
        "ValidationException",
        "1 validation error detected: Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
    ),
    (
        {"SnapStart": {"ApplyOn": "invalidOption"}},
        "ValidationException",
        "1 validation error detected: Value 'invalidOption' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]",
    ),
    (
        {"VpcConfig": {"SubnetIds": ["bad-format"], "SecurityGroupIds": ["sg-1"]}},
        "ValidationException",
        "1 validation error detected: Value '[bad-format]' at 'vpcConfig.subnetIds' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: subnet-[0-9a-z]*]",
    ),
    (
        {"VpcConfig": {"SubnetIds": ["subnet-12345"], "SecurityGroupIds": ["sg-12345"]}},
        "InvalidParameterValueException",
        "Error occurred while DescribeSubnets. EC2 Error Code: InvalidSubnetID.NotFound. EC2 Error Message: The subnet ID 'subnet-12345' does not exist",
    ),
    (
        {"VpcConfig": {"SecurityGroupIds": ["sg-12345"]}},
        "InvalidParameterValueException",
        "Error occurred while DescribeSecurityGroups. EC2 Error Code: InvalidGroup.NotFound. EC2 Error Message: The security group 'sg-12345' does not exist",
    ),
    (
        {"Code": {"ZipFile": b"this is no zip file"}},
        "InvalidParameterValueException",
        "Could not unzip uploaded file. Please check your file, then try to upload again.",
    ),
    (
        {"Environment": {"Variables": {"LARGE_VAR": "x" * 4081}}},
        "InvalidParameterValueException",
        f'{ENVIRONMENT_UNABLE}exceeded the 4KB limit. String measured: {{"LARGE_VAR":"{"x" * 4081}"}}',
    ),
    (
        {"Environment": {"Variables": {"SMALL_VAR": "ok", "LARGE_VAR": "x" * 4064}}},
        "InvalidParameterValueException",
        f'{ENVIRONMENT_UNABLE}exceeded the 4KB limit. String measured: {{"SMALL_VAR":"ok","LARGE_VAR":"{"x" * 4064}"}}',
    ),
    (
        {"Tags": {f"{number}_key": "value" for number in range(51)}},
        "InvalidParameterValueException",
        "Number of tags exceeds resource tag limit.",
    ),
    (
        {"CodeSigningConfigArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-12345678901234567"},
        "CodeSigningConfigNotFoundException",
        f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-12345678901234567.",
    ),
    (
        {"FunctionName": "a" * 65},
        "InvalidParameterValueException",
        f"1 validation error detected: Value '{'a' * 65}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64",
    ),
    # quoted by users, not recorded
    (
        {"Environment": {"Variables": {"AWS_REGION": "here", "OK": "1", "LAMBDA_TASK_ROOT": "/"}}},
        "InvalidParameterValueException",
        f"{ENVIRONMENT_UNABLE}contains reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_REGION, LAMBDA_TASK_ROOT",
    ),
    (
        {"Environment": {"Variables": {"1": "a"}}},
        "ValidationException",
        "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]",
    ),
    (
        {"Timeout": 901},
        "InvalidParameterValueException",
        "'Timeout' value failed to satisfy constraint: Member must have value less than or equal to 900",
    ),
    (
        {"MemorySize": 10241},
        "InvalidParameterValueException",
        "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240",
    ),
    (
        {"EphemeralStorage": {"Size": 10241}},
        "InvalidParameterValueException",
        "'EphemeralStorage.Size' value failed to satisfy constraint: Member must have value less than or equal to 10240",
    ),
    ({"Code": {}}, "InvalidParameterValueException", "Please provide a source for function code."),
    ({"Code": {"ZipFile": b""}}, "InvalidParameterValueException", "Uploaded file must be a non-empty zip"),
    (
        {"Runtime": "python3.9", "SnapStart": {"ApplyOn": "PublishedVersions"}},
        "InvalidParameterValueException",
        "python3.9 is not supported for SnapStart enabled functions.",
    ),
    (
        {"PackageType": "Image", "Code": {"ImageUri": "image"}},
        "InvalidParameterValueException",
        "Please don't provide Handler or Runtime or Layer when the intended function PackageType is IMAGE.",
    ),
    # what is not there yet says so
    (
        {
            "FileSystemConfigs": [
                {
                    "Arn": f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-12345678901234567",
                    "LocalMountPath": "/mnt/a",
                }
            ]
        },
        "NotImplementedException",
        "File systems are not implemented yet: leave FileSystemConfigs out.",
    ),
]


@pytest.mark.parametrize(
    ("wrong", "code", "text"),
    FAULTS,
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_create_function_refuses(aws: Any, name: str, wrong: dict[str, Any], code: str, text: str) -> None:
    """Texts recorded between November 2025 and January 2026 where nothing else is said."""
    found = refused(aws.create_function, **{"FunctionName": name, **described(**wrong)})
    assert (found["code"], found["text"]) == (code, text)
    assert refused(aws.get_function, FunctionName=name)["http"] == 404


def test_an_environment_that_just_fits(aws: Any, name: str) -> None:
    """Recorded 25 November 2025: 4,096 bytes as JSON."""
    variables = {"LARGE_VAR": "x" * 4080}
    assert create(aws, name, Environment={"Variables": variables})["Environment"] == {"Variables": variables}


def test_s3_as_a_source_of_code(aws: Any, name: str) -> None:
    """The beginning as recorded on 25 November 2025 for a bucket that does not exist."""
    text = "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does not exist"
    create(aws, name)
    for found in (
        refused(aws.create_function, FunctionName="other", **described(Code={"S3Bucket": "abc", "S3Key": "k"})),
        refused(aws.update_function_code, FunctionName=name, S3Bucket="abc", S3Key="k"),
    ):
        assert found["code"] == "InvalidParameterValueException"
        assert found["text"].startswith(text)


def test_packages_that_are_too_large(aws: Any, name: str) -> None:
    """Unzipped and zipped: recorded 25 November 2025."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as opened, opened.open("zeros", "w") as file:
        for _ in range(251):
            file.write(bytes(1024 * 1024))
    found = refused(aws.create_function, FunctionName=name, **described(Code={"ZipFile": bomb.getvalue()}))
    assert (found["code"], found["text"]) == (
        "InvalidParameterValueException",
        "Unzipped size must be smaller than 262144000 bytes",
    )
    found = refused(aws.create_function, FunctionName=name, **described(Code={"ZipFile": bytes(52_428_801)}))
    assert (found["code"], found["http"], found["text"]) == (
        "RequestEntityTooLargeException",
        413,
        "Zipped size must be smaller than 52428800 bytes",
    )


def test_a_large_package(aws: Any, served: Served, name: str) -> None:
    """More than is read as JSON in one piece; comes out of the download as it went in."""
    code = package({"index.py": SOURCE, "data": random.Random(1).randbytes(3_000_000)})
    create(aws, name, Code={"ZipFile": code})
    link = aws.get_function(FunctionName=name)["Code"]["Location"]
    assert link.startswith(f"{served.endpoint}/_code/")
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == code
    for broken in (link[:-1] + ("0" if link[-1] != "0" else "1"), link.partition("?")[0], link.replace("Expires=1", "Expires=2")):
        with pytest.raises(urllib.error.HTTPError, match="403") as caught:
            urllib.request.urlopen(broken)
        caught.value.close()


def test_dry_run_changes_nothing(aws: Any, name: str) -> None:
    create(aws, name)
    before = aws.get_function_configuration(FunctionName=name)
    other = package({"index.py": "x = 1"})
    answer = aws.update_function_code(FunctionName=name, ZipFile=other, DryRun=True)
    assert answer["CodeSha256"] == base64.b64encode(hashlib.sha256(other).digest()).decode()
    after = aws.get_function_configuration(FunctionName=name)
    assert {**after, "ResponseMetadata": 0} == {**before, "ResponseMetadata": 0}
    assert refused(aws.update_function_code, FunctionName=name, ZipFile=b"junk", DryRun=True)["http"] == 400


def test_update_code_with_what_is_no_zip(aws: Any, name: str) -> None:
    create(aws, name)
    assert refused(aws.update_function_code, FunctionName=name)["text"] == "Please provide a source for function code."
    found = refused(aws.update_function_code, FunctionName=name, ImageUri="image")
    assert found["text"] == "Please don't provide ImageUri when updating a function with packageType Zip."


def test_no_layers_for_an_image(aws: Any, name: str) -> None:
    """As SDKs and templates send it that always say what they want."""
    aws.create_function(FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": "mine:1"})
    settled(aws, name)
    changed = aws.update_function_configuration(FunctionName=name, Layers=[], Description="changed")
    assert (changed["Description"], changed["PackageType"], changed.get("Layers")) == ("changed", "Image", None)
    settled(aws, name)
    found = refused(aws.update_function_configuration, FunctionName=name, Layers=[f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:l:1"])
    assert (found["http"], found["code"]) == (400, "InvalidParameterValueException")
    assert "PackageType is IMAGE" in found["text"]


def test_architectures(aws: Any, name: str) -> None:
    assert create(aws, name, Architectures=["arm64"])["Architectures"] == ["arm64"]
    kept = aws.update_function_code(FunctionName=name, ZipFile=package({"a": "1"}))
    settled(aws, name)
    changed = aws.update_function_code(FunctionName=name, ZipFile=package({"a": "2"}), Architectures=["x86_64"])
    assert (kept["Architectures"], changed["Architectures"]) == (["arm64"], ["x86_64"])


def test_logging_configuration(aws: Any, name: str) -> None:
    """Recorded 25 November 2025: levels come and go with the JSON format."""
    group = f"/aws/lambda/{name}"
    create(aws, name)
    steps = [
        (
            {"LogFormat": "JSON"},
            {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", "LogGroup": group},
        ),
        (
            {"ApplicationLogLevel": "DEBUG"},
            {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "INFO", "LogGroup": group},
        ),
        (
            {"SystemLogLevel": "DEBUG"},
            {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "DEBUG", "LogGroup": group},
        ),
        (
            {"LogGroup": "cool_lambda"},
            {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "DEBUG", "LogGroup": "cool_lambda"},
        ),
        ({"LogFormat": "Text"}, {"LogFormat": "Text", "LogGroup": "cool_lambda"}),
    ]
    for given, expected in steps:
        answer = aws.update_function_configuration(FunctionName=name, LoggingConfig=given)
        assert answer["LoggingConfig"] == expected
        settled(aws, name)
    assert (
        refused(aws.update_function_configuration, FunctionName=name, LoggingConfig={"ApplicationLogLevel": "INFO"})["http"]
        == 400
    )


def test_snap_start(aws: Any, name: str) -> None:
    """Recorded 12 January 2026 for python3.12: taken, and never optimised by itself."""
    create(aws, name)
    answer = aws.update_function_configuration(FunctionName=name, SnapStart={"ApplyOn": "PublishedVersions"})
    assert answer["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}


def test_members_that_can_be_taken_back(aws: Any, name: str) -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
    created = create(aws, name, DeadLetterConfig={"TargetArn": queue}, KMSKeyArn=key, Environment={"Variables": {"AB": "b"}})
    assert (created["DeadLetterConfig"], created["KMSKeyArn"]) == ({"TargetArn": queue}, key)
    answer = aws.update_function_configuration(
        FunctionName=name, DeadLetterConfig={"TargetArn": ""}, KMSKeyArn="", Environment={}
    )
    assert "DeadLetterConfig" not in answer
    assert "KMSKeyArn" not in answer
    assert answer["Environment"] == {"Variables": {}}


def test_lists(aws: Any, name: str) -> None:
    """Recorded 25 November 2025: lists leave out states and the runtime's version; ALL qualifies every ARN."""
    create(aws, f"{name}-a", Publish=True)
    create(aws, f"{name}-b")
    mine = [one for one in aws.list_functions()["Functions"] if one["FunctionName"].startswith(name)]
    expected = configuration(f"{name}-a")
    del expected["RuntimeVersionConfig"]
    assert plain(mine[0]) == expected
    assert [one["FunctionArn"] for one in mine] == [f"{ARN}{name}-a", f"{ARN}{name}-b"]
    versions = [
        one["FunctionArn"]
        for page in aws.get_paginator("list_functions").paginate(FunctionVersion="ALL")
        for one in page["Functions"]
        if one["FunctionName"].startswith(name)
    ]
    assert versions == [f"{ARN}{name}-a:$LATEST", f"{ARN}{name}-a:1", f"{ARN}{name}-b:$LATEST"]
    wrong = refused(aws.list_functions, FunctionVersion="invalid")
    assert (
        wrong["text"]
        == "1 validation error detected: Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"
    )
    assert refused(aws.list_functions, Marker="junk!")["code"] == "InvalidParameterValueException"


def test_pages(aws: Any, name: str) -> None:
    """Nothing twice, nothing missing, also when functions come and go between two pages."""
    for number in range(5):
        aws.create_function(FunctionName=f"{name}-{number}", **described())
    shown: list[str] = []
    marker: dict[str, str] = {}
    while True:
        page = aws.list_functions(MaxItems=2, **marker)
        shown += [one["FunctionName"] for one in page["Functions"] if one["FunctionName"].startswith(name)]
        assert len(page["Functions"]) <= 2
        if "NextMarker" not in page:
            break
        marker = {"Marker": page["NextMarker"]}
        if f"{name}-1" in shown and f"{name}-0" in {one["FunctionName"] for one in aws.list_functions()["Functions"]}:
            aws.delete_function(FunctionName=f"{name}-0")
    assert shown == [f"{name}-{number}" for number in range(5)]


def test_deleting_versions(aws: Any, name: str) -> None:
    """The text for $LATEST is recorded; a version that is not there is no error, as on AWS."""
    create(aws, name, Publish=True)
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert (
        refused(aws.delete_function, FunctionName=name, Qualifier="$LATEST")["text"]
        == "$LATEST version cannot be deleted without deleting the function."
    )
    assert (
        refused(aws.delete_function, FunctionName=name, Qualifier="live")["text"]
        == "Deletion of aliases is not currently supported."
    )
    assert refused(aws.delete_function, FunctionName=f"{name}:1")["code"] == "ResourceConflictException"
    aws.delete_alias(FunctionName=name, Name="live")
    assert aws.delete_function(FunctionName=name, Qualifier="1")["StatusCode"] == 204
    assert aws.delete_function(FunctionName=name, Qualifier="7")["StatusCode"] == 204
    assert [one["Version"] for one in aws.list_versions_by_function(FunctionName=name)["Versions"]] == ["$LATEST"]
    assert aws.publish_version(FunctionName=name)["Version"] == "2"


def test_terraform_asks_for_code_signing(aws: Any, name: str) -> None:
    """Recorded 25 November 2025: nothing but 200."""
    create(aws, name)
    answer = aws.get_function_code_signing_config(FunctionName=name)
    assert set(answer) == {"ResponseMetadata"}
    assert aws.get_runtime_management_config(FunctionName=name)["UpdateRuntimeOn"] == "Auto"


def test_recursive_loop(aws: Any, name: str) -> None:
    create(aws, name)
    assert aws.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    assert aws.put_function_recursion_config(FunctionName=ARN + name, RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
    assert aws.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"
    aws.delete_function(FunctionName=name)
    create(aws, name)
    assert aws.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate", "another one of that name"
    for call, more in ((aws.get_function_recursion_config, {}), (aws.put_function_recursion_config, {"RecursiveLoop": "Allow"})):
        assert refused(call, FunctionName="nobody", **more)["code"] == "ResourceNotFoundException"


def test_concurrency(aws: Any, name: str) -> None:
    """Recorded 24 November 2025, the texts of what is refused in 2023 and 2025."""
    create(aws, name)
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName=name)
    assert aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)["ReservedConcurrentExecutions"] == 0
    assert aws.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 0
    assert aws.get_function(FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 0}
    assert aws.delete_function_concurrency(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName=name)
    assert "Concurrency" not in aws.get_function(FunctionName=name)
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=900)
    found = refused(aws.put_function_concurrency, FunctionName=name, ReservedConcurrentExecutions=901)
    assert found["text"] == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum "
        "value of [100]."
    )
    limits = aws.get_account_settings()
    assert limits["AccountLimit"]["UnreservedConcurrentExecutions"] == 100
    assert set(limits["AccountLimit"]) == {
        "CodeSizeUnzipped",
        "CodeSizeZipped",
        "ConcurrentExecutions",
        "TotalCodeSize",
        "UnreservedConcurrentExecutions",
    }
    assert set(limits["AccountUsage"]) == {"FunctionCount", "TotalCodeSize"}
    aws.delete_function_concurrency(FunctionName=name)
    nobody = refused(aws.put_function_concurrency, FunctionName="doesnotexist", ReservedConcurrentExecutions=1)
    assert nobody["text"] == f"Function not found: {ARN}doesnotexist:$LATEST"
    qualified = refused(aws.put_function_concurrency, FunctionName=f"{ARN}{name}:1", ReservedConcurrentExecutions=1)
    assert qualified["text"] == (
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify "
        "either a function name or an unqualified function ARN."
    )
