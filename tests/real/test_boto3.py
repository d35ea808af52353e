"""The life of functions with nothing but boto3 and HTTP, on real sandboxes, as on AWS.

What is compared with AWS was recorded there in November 2025: states, environment, context, log lines, answers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gateway.cli.bench.instance import Instance
from tests.conftest import client_for
from tests.real.product import PYTHON, ROLE, Product, package

pytestmark = [pytest.mark.real, pytest.mark.slow]

ACCOUNT, REGION = "000000000000", "us-east-1"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"


@pytest.fixture
def closed_at_end() -> Iterator[Callable[[Any], Any]]:
    """Gives back what it is given, and closes it when the test is over."""
    with contextlib.ExitStack() as stack:

        def close(opened: Any) -> Any:
            stack.callback(opened.close)
            return opened

        yield close


def says(what: object) -> str:
    return f"def handler(event, context):\n    return {what!r}\n"


def test_from_create_to_delete(product: Product) -> None:
    """With the waiters as they are."""
    aws, name = product.client, "life"
    product.made.append(name)
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match=re.escape(f"Function not found: {ARN}{name}")):
        product.invoke(name)
    code = package({"app.py": says("first")})
    created = aws.create_function(
        FunctionName=name, Runtime=PYTHON, Role=ROLE, Handler="app.handler", Code={"ZipFile": code}, Tags={"team": "blue"}
    )
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (created["FunctionArn"], created["Version"], created["CodeSize"]) == (ARN + name, "$LATEST", len(code))
    for waiter in ("function_exists", "function_active", "function_active_v2"):
        aws.get_waiter(waiter).wait(FunctionName=name)
    assert product.invoke(name).value == "first"

    got = aws.get_function(FunctionName=name)
    assert (got["Configuration"]["State"], got["Configuration"]["LastUpdateStatus"]) == ("Active", "Successful")
    assert (got["Tags"], got["Code"]["RepositoryType"]) == ({"team": "blue"}, "S3")
    assert name in [found["FunctionName"] for found in aws.list_functions()["Functions"]]
    assert product.fetch(urllib.parse.urlsplit(got["Code"]["Location"])._replace(scheme="", netloc="").geturl())[2] == code

    aws.update_function_configuration(FunctionName=name, Environment={"Variables": {"COLOUR": "blue"}}, Timeout=5, MemorySize=256)
    aws.get_waiter("function_updated").wait(FunctionName=name)
    aws.update_function_code(
        FunctionName=name, ZipFile=package({"app.py": "import os\ndef handler(e, c): return os.environ['COLOUR']"})
    )
    aws.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert product.invoke(name).value == "blue"
    aws.publish_version(FunctionName=name)
    aws.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1")
    assert product.invoke(name, Qualifier="1").value == "blue"

    aws.delete_function(FunctionName=name)
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        product.invoke(name)
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_function(FunctionName=name)
    aws.create_function(
        FunctionName=name,
        Runtime=PYTHON,
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": package({"app.py": says("second life")})},
    )
    aws.get_waiter("function_active_v2").wait(FunctionName=name)
    assert product.invoke(name).value == "second life"
    assert "Tags" not in aws.get_function(FunctionName=name)
    assert [version["Version"] for version in aws.list_versions_by_function(FunctionName=name)["Versions"]] == ["$LATEST"]


def test_update_is_live_when_it_was_acknowledged(product: Product) -> None:
    """No invocation that begins afterwards runs the old code, warm sandboxes or not; none is lost on the way."""
    name = product.deploy(says(0))
    errors: list[object] = []
    latest = [0]
    over = threading.Event()

    def caller() -> None:
        client: Any = client_for(product.instance.endpoint)
        while not over.is_set():
            least = latest[0]
            answer = client.invoke(FunctionName=name, Payload=b"{}")
            value = json.loads(answer["Payload"].read())
            if "FunctionError" in answer or value < least:
                errors.append((value, least))
        client.close()

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for number in range(1, 8):
        product.client.update_function_code(FunctionName=name, ZipFile=package({"app.py": says(number)}))
        latest[0] = number
        assert product.invoke(name).value == number
    over.set()
    for thread in callers:
        thread.join()
    assert not errors


def test_versions_never_change(product: Product) -> None:
    aws = product.client
    name = product.deploy(
        "import os\ndef handler(e, c): return ['one', os.environ['STAGE'], c.function_version]",
        Environment={"Variables": {"STAGE": "a"}},
    )
    assert aws.publish_version(FunctionName=name)["Version"] == "1"
    assert aws.publish_version(FunctionName=name)["Version"] == "1", "nothing has changed"
    aws.update_function_code(
        FunctionName=name,
        ZipFile=package({"app.py": "import os\ndef handler(e, c): return ['two', os.environ['STAGE'], c.function_version]"}),
    )
    product.updated(name)
    aws.update_function_configuration(FunctionName=name, Environment={"Variables": {"STAGE": "b"}})
    product.updated(name)
    assert aws.publish_version(FunctionName=name)["Version"] == "2"
    for qualifier, expected in (("1", ["one", "a", "1"]), ("2", ["two", "b", "2"]), ("$LATEST", ["two", "b", "$LATEST"])):
        answer = product.invoke(name, Qualifier=qualifier)
        assert (answer.value, answer.version) == (expected, qualifier)
        assert f"START RequestId: {answer.request_id} Version: {qualifier}\n" in answer.log
    assert [version["Version"] for version in aws.list_versions_by_function(FunctionName=name)["Versions"]] == [
        "$LATEST",
        "1",
        "2",
    ]
    aws.delete_function(FunctionName=name, Qualifier="1")
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match=re.escape(f"{ARN}{name}:1")):
        product.invoke(name, Qualifier="1")
    assert product.invoke(name, Qualifier="2").value == ["two", "b", "2"]


def test_aliases(product: Product) -> None:
    aws = product.client
    name = product.deploy("def handler(e, c): return [1, c.function_version, c.invoked_function_arn]")
    aws.publish_version(FunctionName=name)
    aws.update_function_code(
        FunctionName=name,
        ZipFile=package({"app.py": "def handler(e, c): return [2, c.function_version, c.invoked_function_arn]"}),
    )
    product.updated(name)
    aws.publish_version(FunctionName=name)

    assert aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")["AliasArn"] == f"{ARN}{name}:live"
    answer = product.invoke(name, Qualifier="live")
    assert (answer.value, answer.version) == ([1, "1", f"{ARN}{name}:live"], "1")
    aws.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    assert product.invoke(name, Qualifier="live").version == "2"
    assert aws.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "2"
    assert [alias["Name"] for alias in aws.list_aliases(FunctionName=name)["Aliases"]] == ["live"]

    aws.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {"1": 0.5}})
    answers = [product.invoke(name, Qualifier="live") for _ in range(60)]
    versions = [answer.version for answer in answers]
    assert 10 < versions.count("1") < 50, "the odds against it are a million to one"
    for answer in answers:
        assert answer.value == [int(answer.version), answer.version, f"{ARN}{name}:live"]
        assert f" Version: {answer.version}\n" in answer.log
    aws.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
    assert {product.invoke(name, Qualifier="live").version for _ in range(10)} == {"2"}

    aws.delete_alias(FunctionName=name, Name="live")
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match=re.escape(f"{ARN}{name}:live")):
        product.invoke(name, Qualifier="live")


def test_names_and_qualifiers(product: Product) -> None:
    name = product.deploy("def handler(e, c): return [c.function_version, c.invoked_function_arn]")
    product.client.publish_version(FunctionName=name)
    product.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for before in ("", "function:", f"{ACCOUNT}:function:", ARN):
        written = before + name if before != "function:" else name
        assert product.invoke(written).value == ["$LATEST", ARN + name]
        assert product.invoke(f"{written}:1").value == ["1", f"{ARN}{name}:1"]
        assert product.invoke(written, Qualifier="live").value == ["1", f"{ARN}{name}:live"]
    with pytest.raises(ClientError, match="The derived qualifier from the function name does not match the specified"):
        product.invoke(f"{name}:live", Qualifier="1")


def test_ways_to_invoke(product: Product) -> None:
    aws = product.client
    name = product.deploy(
        "runs = 0\ndef handler(e, c):\n    global runs\n    runs += 1\n    print('run', runs)\n    return [e, runs]"
    )
    dry = aws.invoke(FunctionName=name, InvocationType="DryRun")
    assert (dry["StatusCode"], dry["Payload"].read()) == (204, b"")
    plain = aws.invoke(FunctionName=name)
    assert (plain["StatusCode"], json.loads(plain["Payload"].read()), "LogResult" in plain) == (200, [{}, 1], False)
    tail = aws.invoke(FunctionName=name, LogType="Tail", Payload=b"[true, null]")
    assert json.loads(tail["Payload"].read()) == [[True, None], 2]
    assert "\nrun 2\n" in base64.b64decode(tail["LogResult"]).decode()
    with pytest.raises(ClientError) as caught:
        aws.invoke(FunctionName=name, Payload=b"{")
    assert caught.value.response["Error"]["Code"] == "InvalidRequestContentException"
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.invoke(FunctionName="not-" + name, InvocationType="DryRun")


def test_log_of_an_invocation(product: Product) -> None:
    """As AWS writes it; Init Duration in the first one's report only."""
    name = product.deploy("def handler(e, c):\n    print('one\\ntwo')\n    print('ä' + 'x' * e)", MemorySize=256)
    first, second = product.invoke(name, 0), product.invoke(name, 5000)
    report = (
        r"REPORT RequestId: {id}\tDuration: (\d+\.\d\d) ms\tBilled Duration: (\d+) ms\t"
        r"Memory Size: 256 MB\tMax Memory Used: (\d+) MB\t{init}\n"
    )
    lines = r"START RequestId: {id} Version: \$LATEST\none\ntwo\nä\nEND RequestId: {id}\n" + report
    found = re.fullmatch(lines.format(id=first.request_id, init=r"Init Duration: (\d+\.\d\d) ms\t"), first.log)
    assert found, first.log
    duration_ms, billed_ms, used_mb, init_ms = map(float, found.groups())
    assert duration_ms + init_ms <= billed_ms < duration_ms + init_ms + 2
    assert 0 < used_mb < 256
    assert len(second.log) == 4096
    end = r"^x+\nEND RequestId: {id}\n" + report.format(id="{id}", init="")
    assert re.search(f"{end}$".format(id=second.request_id), second.log), second.log[-500:]
    begun, *log = product.log(name)
    assert begun.startswith("INIT_START Runtime Version: ")
    assert log[:4] == [f"START RequestId: {first.request_id} Version: $LATEST", "one", "two", "ä"]


def test_a_sandbox_is_used_again_and_a_timeout_begins_it_anew(product: Product) -> None:
    """Recorded: after a time-out /tmp is as it was, and the function's own state is gone."""
    name = product.deploy(
        "import time\nnumber = 0\n"
        "def handler(e, c):\n"
        "    global number\n"
        "    if e == 'set': number = 42; open('/tmp/file', 'w').write('some-content')\n"
        "    if e == 'sleep': time.sleep(60)\n"
        "    return [number, open('/tmp/file').read()]",
        Timeout=1,
    )
    assert product.invoke(name, "set").value == [42, "some-content"]
    assert product.invoke(name).value == [42, "some-content"]
    assert product.invoke(name, "sleep").value["errorType"] == "Sandbox.Timedout"
    assert product.invoke(name).value == [0, "some-content"]


def test_tags(product: Product) -> None:
    aws = product.client
    name = product.deploy(says("x"), Tags={"a": "1"})
    aws.tag_resource(Resource=ARN + name, Tags={"b": "2", "c": "ä"})
    with pytest.raises(
        aws.exceptions.InvalidParameterValueException, match="lambent:min-warm is 'x', which is not a whole number"
    ):
        aws.tag_resource(Resource=ARN + name, Tags={"lambent:min-warm": "x"})
    aws.untag_resource(Resource=ARN + name, TagKeys=["a", "none"])
    assert aws.list_tags(Resource=ARN + name)["Tags"] == {"b": "2", "c": "ä"}
    assert aws.get_function(FunctionName=name)["Tags"] == {"b": "2", "c": "ä"}


def test_policies(product: Product) -> None:
    aws = product.client
    name = product.deploy(says("x"))
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_policy(FunctionName=name)
    added = aws.add_permission(
        FunctionName=name, StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com", SourceAccount=ACCOUNT
    )
    statement = {
        "Sid": "s3",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": ARN + name,
        "Condition": {"StringEquals": {"AWS:SourceAccount": ACCOUNT}},
    }
    assert json.loads(added["Statement"]) == statement
    assert json.loads(aws.get_policy(FunctionName=name)["Policy"])["Statement"] == [statement]
    aws.remove_permission(FunctionName=name, StatementId="s3")
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_policy(FunctionName=name)
    aws.get_function_code_signing_config(FunctionName=name)


def test_every_runtime_of_this_host(product: Product) -> None:
    runtimes = [name for name, found in product.instance.status()["runtimes"].items() if found["available"]]
    assert PYTHON in runtimes
    for runtime in (name for name in runtimes if name.startswith("python")):
        name = product.deploy("import sys\ndef handler(e, c): return 'python%d.%d' % sys.version_info[:2]", Runtime=runtime)
        assert product.invoke(name).value == runtime


@pytest.mark.timeout(60)
def test_a_burst_of_invocations_is_answered(product: Product) -> None:
    """Each by a sandbox of its own while it runs, which is longer than a cold start even beside other work."""
    name = product.deploy(
        "import time, uuid\nown = str(uuid.uuid4())\ndef handler(e, c):\n    time.sleep(1)\n    return own", Timeout=20
    )
    answers: list[Any] = []
    together = threading.Barrier(20)  # making a client takes longer than an invocation

    def call() -> None:
        client: Any = client_for(product.instance.endpoint)
        together.wait(40)
        answers.append(json.loads(client.invoke(FunctionName=name)["Payload"].read()))
        client.close()

    callers = [threading.Thread(target=call) for _ in range(20)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert len(answers) == 20
    assert len(set(answers)) > 10


def test_everything_survives_a_restart(up: Callable[..., Instance], closed_at_end: Callable[[Any], Any]) -> None:
    first = up()
    port = urllib.parse.urlsplit(first.endpoint).port
    product = Product(first, closed_at_end(client_for(first.endpoint)))
    aws = product.client
    name = product.deploy(
        says("one"), Tags={"a": "1"}, Environment={"Variables": {"STAGE": "y"}}, Description="d", MemorySize=192
    )
    aws.publish_version(FunctionName=name, Description="first")
    aws.update_function_code(FunctionName=name, ZipFile=package({"app.py": says("two")}))
    product.updated(name)
    aws.publish_version(FunctionName=name)
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="2", RoutingConfig={"AdditionalVersionWeights": {"1": 0.25}})
    product.publish_url(name)
    layer = {"ZipFile": package({"python/who.py": "WHO = 'layer'\n"})}
    arn = aws.publish_layer_version(LayerName="kept", Content=layer)["LayerVersionArn"]
    layered = product.deploy("import who\ndef handler(event, context):\n    return who.WHO\n", Layers=[arn])
    aws.delete_layer_version(LayerName="kept", VersionNumber=1)
    gone = product.deploy(says("gone"))
    aws.delete_function(FunctionName=gone)

    def everything(product: Product) -> dict[str, Any]:
        aws = product.client
        answers = {
            "functions": aws.list_functions(),
            "versions": aws.list_versions_by_function(FunctionName=name),
            "aliases": aws.list_aliases(FunctionName=name),
            "url": aws.get_function_url_config(FunctionName=name),
            "policy": aws.get_policy(FunctionName=name),
            "tags": aws.list_tags(Resource=ARN + name),
            "one": {"value": product.invoke(name, Qualifier="1").value},
            "two": {"value": product.invoke(name).value},
            "http": {"value": product.fetch(product.url_path(name))[2]},
        }
        for answer in answers.values():
            answer.pop("ResponseMetadata", None)
        return answers

    before = everything(product)
    assert (before["one"]["value"], before["two"]["value"], before["http"]["value"]) == ("one", "two", b"two")
    log = product.log(name)
    assert first.close() == 0

    second = up(port=port)
    again = Product(second, closed_at_end(client_for(second.endpoint)))
    assert again.log(name) == log
    assert everything(again) == before
    assert (
        again.client.publish_version(FunctionName=name, CodeSha256=before["versions"]["Versions"][0]["CodeSha256"])["Version"]
        == "2"
    )
    again.client.update_function_code(FunctionName=name, ZipFile=package({"app.py": says("three")}))
    again.updated(name)
    assert again.client.publish_version(FunctionName=name)["Version"] == "3"
    assert again.invoke(name, Qualifier="3").value == "three"
    assert again.invoke(layered).value == "layer", "whose version was deleted before"
