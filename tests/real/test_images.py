"""Image functions, on both drivers that run them: built by `docker build`, and from OCI files that need no engine."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.bench.instance import Instance
from gateway.cli.main import main
from gateway.up import owner_of
from tests import leftovers
from tests.conftest import client_for
from tests.engine import DockerEngine
from tests.oci import layout, relabelled
from tests.real.product import ROLE, Product, eventually

pytestmark = [pytest.mark.real, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(120)]

RECIPES = Path(__file__).parent.parent / "images"
CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")


def site_packages(target: Path) -> None:
    """AWS's public runtime client, as pip has installed it for the tests."""
    for name in CLIENT:
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target / file)


def built(engine: DockerEngine, directory: Path, architecture: str = "x86_64") -> str:
    """The image of tests/images/ric, built as its user builds it; its name."""
    base = engine.build("python3.11", architecture)
    shutil.copytree(RECIPES / "ric", directory, dirs_exist_ok=True)
    site_packages(directory / "site-packages")
    name = f"ric:{architecture}"
    engine.docker("build", "--build-arg", f"BASE={base}", "--tag", name, str(directory))
    return name


@pytest.fixture(scope="module")
def image(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(docker_engine, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def archive(docker_engine: DockerEngine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same image as an OCI archive."""
    directory = tmp_path_factory.mktemp("oci")
    docker_engine.docker("save", "--output", str(directory / "saved.tar"), image)
    return layout(directory / "saved.tar", directory / "image.tar")


@pytest.fixture(scope="module", params=["native", "docker"])
def containers(
    request: pytest.FixtureRequest, docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    data_dir = tmp_path_factory.mktemp(request.param)
    settings = {"driver": request.param, "docker_host": docker_engine.url, "drain_s": 5}
    with Instance(data_dir, settings) as instance:
        client = client_for(instance.endpoint)
        yield Product(instance, client)
        client.close()
    found = leftovers.labelled([owner_of(data_dir)], [data_dir])
    assert not found, f"left behind: {found}"
    assert docker_engine.containers(f"lambent.owner={owner_of(data_dir)}") == []


@pytest.fixture
def make(containers: Product) -> Iterator[Callable[..., str]]:
    count = iter(range(100))

    def made(uri: str, **settings: Any) -> str:
        name = f"image-{next(count)}"
        containers.made.append(name)
        containers.client.create_function(
            FunctionName=name, PackageType="Image", Code={"ImageUri": uri}, Role=ROLE, **{"Timeout": 10, **settings}
        )
        containers.client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 5000})
        return name

    yield made
    containers.clear()


def error_of(containers: Product, name: str) -> dict[str, Any]:
    answer = containers.invoke(name)
    assert answer.function_error == "Unhandled"
    found: dict[str, Any] = answer.value
    return found


def test_url_answers(containers: Product, image: str, make: Callable[..., str]) -> None:
    name = make(image)
    containers.publish_url(name)
    assert containers.fetch(containers.url_path(name))[0::2] == (200, b"from x86_64")
    assert any("init of the image" in line for line in containers.log(name))


def test_oci_archive(containers: Product, archive: Path, make: Callable[..., str]) -> None:
    name = make(f"oci-archive:{archive}")
    containers.publish_url(name)
    assert containers.fetch(containers.url_path(name))[0::2] == (200, b"from x86_64")


def test_deploy_from_the_command_line(containers: Product, image: str, archive: Path) -> None:
    """By name and by path; again it is brought up to date, with another command."""
    name = "from-the-command-line"
    containers.made.append(name)
    common = ["--endpoint", containers.instance.endpoint, "--timeout", "10", "--architecture", "x86_64"]
    first = CliRunner().invoke(main, ["deploy", name, "--image", image, *common])
    assert (first.exit_code, f"created {name} (image {image})" in first.stderr) == (0, True), first.output
    assert containers.fetch(containers.url_path(name))[0::2] == (200, b"from x86_64")
    again = CliRunner().invoke(main, ["deploy", name, "--image", str(archive), "--handler", "app.other", *common])
    assert (again.exit_code, f"updated {name}" in again.stderr) == (0, True), again.output
    assert containers.invoke(name).value == "the other one"
    assert first.stdout == again.stdout
    missing = CliRunner().invoke(main, ["deploy", name, "--image", "nobody/has-this:1", *common])
    assert (missing.exit_code, "does not exist" in missing.stderr) == (1, True), missing.output


def test_as_aws_describes_it(containers: Product, image: str, make: Callable[..., str]) -> None:
    name = make(image, Environment={"Variables": {"CUSTOM_ENV": "test"}})
    found = containers.client.get_function(FunctionName=name)
    configuration, code = found["Configuration"], found["Code"]
    assert set(configuration) & {"Runtime", "Handler", "RuntimeVersionConfig", "ImageConfigResponse", "Layers"} == set()
    assert configuration["PackageType"] == "Image"
    assert len(configuration["CodeSha256"]) == 64
    assert code["RepositoryType"] == "ECR"
    assert code["ImageUri"] == image
    assert code["ResolvedImageUri"] == f"ric@sha256:{configuration['CodeSha256']}"


def test_what_it_finds(containers: Product, image: str, make: Callable[..., str]) -> None:
    found = containers.invoke(make(image, Environment={"Variables": {"MINE": "1"}}), {"look": 1}).value
    assert found["directory"] == "/function"
    assert found["uid"] >= 1000
    assert found["writable"] == ["/tmp"]
    assert "function" in found["files"]
    assert "staging" not in found["files"], "the porter's root is out of reach"
    assert len(found["pids"]) <= 3, "/proc is its own"
    assert set(found["devices"]) >= {"full", "null", "random", "urandom", "zero", "fd", "stdin", "stdout", "stderr"}
    assert not {"mem", "kmsg", "sda", "loop0"} & set(found["devices"])
    environment = found["environment"]
    assert environment["IN_THE_IMAGE"] == "yes"
    assert environment["MINE"] == "1"
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128"
    assert environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_Image"


def test_image_config(containers: Product, image: str, make: Callable[..., str]) -> None:
    config = {"Command": ["app.other"], "WorkingDirectory": "/function"}
    name = make(image, ImageConfig=config)
    assert containers.invoke(name).value == "the other one"
    client = containers.client
    assert client.get_function_configuration(FunctionName=name)["ImageConfigResponse"]["ImageConfig"] == config
    client.update_function_configuration(FunctionName=name, ImageConfig={"Command": ["app.handler"]})
    containers.updated(name)
    assert containers.invoke(name).value["body"] == "from x86_64"


def test_update_to_another_image(
    containers: Product, image: str, archive: Path, make: Callable[..., str], docker_engine: DockerEngine, tmp_path: Path
) -> None:
    """What runs is the image as it was; a tag that moves changes nothing until the function's code is updated."""
    docker_engine.docker("tag", image, "moving:latest")
    name = make("moving:latest")
    before = containers.client.get_function(FunctionName=name)
    (tmp_path / "Dockerfile").write_text(f'FROM {image}\nCMD ["app.other"]\n')
    docker_engine.docker("build", "--tag", "moving:latest", str(tmp_path))
    assert containers.invoke(name).value["body"] == "from x86_64"
    containers.client.update_function_code(FunctionName=name, ImageUri="moving:latest")
    containers.updated(name)
    after = containers.client.get_function_configuration(FunctionName=name)
    assert after["CodeSha256"] != before["Configuration"]["CodeSha256"]
    assert containers.invoke(name).value == "the other one"
    with pytest.raises(
        containers.client.exceptions.InvalidParameterValueException, match="Please provide ImageUri when updating"
    ):
        containers.client.update_function_code(FunctionName=name, ZipFile=b"PK")


def test_refused_as_aws_refuses(containers: Product, image: str) -> None:
    client = containers.client
    usual = {"FunctionName": "refused", "Role": ROLE, "PackageType": "Image"}
    for more, text in (
        ({"Code": {"ImageUri": "nobody/has-this:1"}}, "Source image nobody/has-this:1 does not exist"),
        ({"Code": {"ImageUri": "oci-archive:/nowhere.tar"}}, "Source image oci-archive:/nowhere.tar does not exist"),
        ({"Code": {"ImageUri": "oci:relative"}}, "must be absolute"),
        ({"Code": {"ImageUri": image}, "Runtime": "python3.11"}, "Please don't provide Handler or Runtime or Layer"),
        ({"Code": {"ZipFile": b"PK"}}, "Please provide a source for function code"),
    ):
        with pytest.raises(client.exceptions.InvalidParameterValueException, match=text):
            client.create_function(**usual, **more)


@pytest.mark.parametrize(
    ("config", "error_type", "message"),
    [
        ({"EntryPoint": ["/missing"]}, "Runtime.InvalidEntrypoint", "fork/exec /missing: no such file or directory"),
        ({"EntryPoint": ["/etc/passwd"]}, "Runtime.InvalidEntrypoint", "fork/exec /etc/passwd: permission denied"),
        ({"WorkingDirectory": "/missing"}, "Runtime.InvalidWorkingDir", "chdir /missing: no such file or directory"),
        ({"EntryPoint": ["true"]}, "Runtime.ExitError", "Runtime exited without providing a reason"),
        ({"EntryPoint": ["sh", "-c", "exit 3"]}, "Runtime.ExitError", "exit status 3"),
    ],
)
def test_bad_entry_points(
    containers: Product, image: str, make: Callable[..., str], config: dict[str, Any], error_type: str, message: str
) -> None:
    found = error_of(containers, make(image, ImageConfig=config))
    assert found["errorType"] == error_type
    assert message in found["errorMessage"]


def test_entry_point_that_ignores_the_runtime_api(containers: Product, image: str, make: Callable[..., str]) -> None:
    found = error_of(containers, make(image, ImageConfig={"EntryPoint": ["sleep", "1000"]}, Timeout=1))
    assert found["errorType"] == "Sandbox.Timedout"


def test_image_without_entry_point(
    containers: Product, docker_engine: DockerEngine, make: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    docker_engine.docker("build", "--tag", "empty", str(tmp_path))
    found = error_of(containers, make("empty"))
    assert found["errorType"] == "Runtime.InvalidEntrypoint"
    assert "no entry point" in found["errorMessage"]


def test_tmp_that_is_full(containers: Product, image: str, make: Callable[..., str]) -> None:
    script = "import os\ntry:\n    os.posix_fallocate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 0, 600 << 20)\n"
    script += "except OSError as error:\n    print(error.strerror)\n"
    name = make(image, ImageConfig={"EntryPoint": ["python3.11", "-c", script]})
    error_of(containers, name)
    assert any("No space left on device" in line for line in containers.log(name)), containers.log(name)


def test_forks_without_end_stay_inside(containers: Product, image: str, make: Callable[..., str]) -> None:
    script = "import os, signal\nmade = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            signal.pause()\n"
    script += "        made += 1\nexcept OSError as error:\n    print(made, error.strerror, flush=True)\n"
    name = make(image, ImageConfig={"EntryPoint": ["python3.11", "-c", script]}, MemorySize=2048, Timeout=20)
    assert error_of(containers, name)["errorType"] == "Runtime.ExitError"
    said = [line for line in containers.log(name) if "Resource temporarily unavailable" in line]
    assert said
    assert all(500 < int(line.split()[0]) <= 1024 for line in said)
    assert containers.invoke(make(image)).value["body"] == "from x86_64"


def test_image_of_another_architecture(
    containers: Product, docker_engine: DockerEngine, make: Callable[..., str], tmp_path: Path, image: str
) -> None:
    """As on AWS it is taken, and its program cannot be executed; also where an emulator would do it."""
    docker_engine.docker("save", "--output", str(tmp_path / "saved.tar"), image)
    other = relabelled(tmp_path / "saved.tar", tmp_path / "other.tar", "arm64")
    name = make(f"docker-archive:{other}")
    assert "exec format error" in containers.instance.log.read_text(), "said when it was made"
    found = error_of(containers, name)
    assert found["errorType"] == "Runtime.InvalidEntrypoint"
    assert found["errorMessage"].endswith("Error: fork/exec /usr/bin/python3.11: exec format error")


def test_image_that_fills_its_disk(containers: Product, image: str, make: Callable[..., str]) -> None:
    """What is the image's own cannot be written to; /tmp has its size, and the machine's disk is not touched by either."""
    script = (
        "import os\n"
        "for path in ('/fill', '/function/fill', '/run/fill', '/var/task/fill', '/opt/fill', '/dev/fill'):\n"
        "    try:\n"
        "        open(path, 'wb').write(b'x')\n"
        "        print('could write', path)\n"
        "    except OSError as error:\n"
        "        print(path, error.strerror)\n"
        "written = 0\n"
        "try:\n"
        "    with open('/tmp/fill', 'wb', 0) as file:\n"
        "        while True:\n"
        "            written += file.write(bytes(1 << 20))\n"
        "except OSError as error:\n"
        "    print('after', written >> 20, 'MB:', error.strerror, flush=True)\n"
    )
    name = make(image, ImageConfig={"EntryPoint": ["python3.11", "-c", script]}, Timeout=30, MemorySize=1024)
    error_of(containers, name)
    log = containers.log(name)
    assert not [line for line in log if "could write" in line], log
    (full,) = {line for line in log if line.startswith("after ")}
    assert "No space left on device" in full
    assert 400 < int(full.split()[1]) <= 512


def test_images_that_nobody_has_any_more(
    docker_engine: DockerEngine, image: str, archive: Path, up: Callable[..., Instance], tmp_path: Path
) -> None:
    """Published versions keep theirs, and what was in use lately is spared while it runs; the next start removes the rest."""
    settings = {"docker_host": docker_engine.url, "drain_s": 5}
    instance = up(**settings)
    client = client_for(instance.endpoint)
    product = Product(instance, client)
    docker_engine.docker("save", "--output", str(tmp_path / "saved.tar"), image)
    digests = {}
    for name in ("goes", "published", "stays"):
        one = relabelled(tmp_path / "saved.tar", tmp_path / f"{name}.tar", "amd64", mark=name)
        uri = f"oci-archive:{archive}" if name == "stays" else f"docker-archive:{one}"
        client.create_function(FunctionName=name, PackageType="Image", Code={"ImageUri": uri}, Role=ROLE, Timeout=10)
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 5000})
        digests[name] = client.get_function_configuration(FunctionName=name)["CodeSha256"]
    client.publish_version(FunctionName="published")
    client.update_function_code(FunctionName="published", ImageUri=f"oci-archive:{archive}")
    product.updated("published")
    client.delete_function(FunctionName="goes")
    directory = instance.data_dir / "images"
    assert {path.name for path in directory.iterdir()} == set(digests.values())
    client.close()
    instance.close()
    (directory / "making.torn").mkdir()
    again = up(**settings)
    left = {digests["published"], digests["stays"]}
    eventually(lambda: {path.name for path in directory.iterdir()} == left, within_s=60)
    client = client_for(again.endpoint)
    for name in ("published:1", "stays"):
        assert Product(again, client).invoke(name).value["body"] == "from x86_64"
    client.close()


def test_extension_inside_the_image(
    containers: Product, image: str, make: Callable[..., str], docker_engine: DockerEngine, tmp_path: Path
) -> None:
    (tmp_path / "watch").write_text(
        """#!/usr/bin/python3.11
import http.client, json, os
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, headers, body=None):
    connection.request(method, "/2020-01-01/extension/" + path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer
registered = call("POST", "register", {"Lambda-Extension-Name": "watch"}, json.dumps({"events": ["INVOKE"]}))
known = {"Lambda-Extension-Identifier": registered.headers["Lambda-Extension-Identifier"]}
print("extension is there", flush=True)
while True:
    call("GET", "event/next", known)
"""
    )
    (tmp_path / "watch").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nCOPY watch /opt/extensions/watch\n")
    docker_engine.docker("build", "--tag", "extended", str(tmp_path))
    name = make("extended")
    assert containers.invoke(name).value["body"] == "from x86_64"
    assert any("extension is there" in line for line in containers.log(name)), containers.log(name)


def test_image_whose_cold_start_found_no_spare_gets_one(containers: Product, image: str, make: Callable[..., str]) -> None:
    first, second = make(image), make(image)
    containers.invoke(first)
    found = containers.client.get_function_configuration(FunctionName=first)["CodeSha256"]
    eventually(lambda: containers.instance.status()["stems"].get(f"sha256:{found[:12]}", 0) >= 1)
    assert containers.invoke(second).value["body"] == "from x86_64"
