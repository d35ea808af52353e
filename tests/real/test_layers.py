"""Layers in real sandboxes: what is at /opt, in which order, and for how long."""

from __future__ import annotations

import io
import platform
import stat
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.real import archives, expected
from tests.real.product import PYTHON, Product, eventually, package

pytestmark = [pytest.mark.real, pytest.mark.slow]

LOOK = """
import os, subprocess, sys
def handler(event, context):
    import both, first, second
    try:
        open("/opt/new", "w")
        written = True
    except OSError as error:
        written = error.errno
    return {
        "both": both.WHO, "first": first.WHO, "second": second.WHO,
        "path": sys.path[:4], "tool": subprocess.run(["tool"], capture_output=True, text=True).stdout,
        "written": written, "PATH": os.environ["PATH"].split(":"), "LD": os.environ["LD_LIBRARY_PATH"].split(":"),
        "opt": sorted(os.listdir("/opt")),
    }
"""
SITE = f"python/lib/{PYTHON}/site-packages"


def publish(product: Product, name: str, **files: str) -> str:
    """A layer of Python modules that say who they are; its ARN."""
    return publish_files(product, name, {f"python/{module}.py": f"WHO = {text!r}\n" for module, text in files.items()})


def publish_files(product: Product, name: str, files: dict[str, str]) -> str:
    answer = product.client.publish_layer_version(LayerName=name, Content={"ZipFile": package(files)})
    arn: str = answer["LayerVersionArn"]
    return arn


def test_opt(product: Product) -> None:
    """Merged in order, on all paths, not writable, and gone when the function has no layers any more."""
    one = publish_files(
        product,
        "one",
        {"python/both.py": "WHO = 1\n", "python/first.py": "WHO = 1\n", "bin/tool": "#!/bin/sh\necho one\n", "only/one": ""},
    )
    two = publish_files(
        product,
        "two",
        {"python/both.py": "WHO = 2\n", f"{SITE}/second.py": "WHO = 2\n", "bin/tool": "#!/bin/sh\necho two\n"},
    )
    name = product.deploy(LOOK, Layers=[one, two])
    found: dict[str, Any] = product.invoke(name).value
    assert (found["both"], found["first"], found["second"], found["tool"]) == (2, 1, 2, "two\n")
    assert found["path"][:3] == ["/var/task", f"/opt/{SITE}", "/opt/python"]
    assert found["written"] == 30  # EROFS
    assert "/opt/bin" in found["PATH"]
    assert "/opt/lib" in found["LD"]
    assert found["opt"] == ["bin", "only", "python"]
    product.client.update_function_configuration(FunctionName=name, Layers=[], Description="without")
    product.updated(name)
    assert "No module named 'both'" in product.invoke(name).value["errorMessage"]


def test_the_order_is_the_callers_and_a_deleted_version_stays(product: Product) -> None:
    one, two = publish(product, "order-one", both="1"), publish(product, "order-two", both="2")
    name = product.deploy("import both\ndef handler(event, context):\n    return both.WHO\n", Layers=[two, one])
    assert product.invoke(name).value == "1"
    product.client.update_function_configuration(FunctionName=name, Layers=[one, two])
    product.updated(name)
    assert product.invoke(name).value == "2"
    for layer in ("order-one", "order-two"):
        product.client.delete_layer_version(LayerName=layer, VersionNumber=1)
    product.client.update_function_configuration(FunctionName=name, MemorySize=256)  # other sandboxes, the same layers
    product.updated(name)
    assert product.invoke(name).value == "2"


def test_a_layer_goes_before_the_standard_library(product: Product) -> None:
    """Also where the runtime has loaded a module of that name already."""
    layer = publish(product, "shadow", heapq="mine", colorsys="mine")
    code = "import colorsys, heapq\ndef handler(event, context):\n    return [hasattr(one, 'WHO') for one in (colorsys, heapq)]\n"
    name = product.deploy(code, Layers=[layer])
    assert product.invoke(name).value == [True, True]


def test_a_runtime_in_a_layer(product: Product) -> None:
    bootstrap = (
        "#!/bin/sh\n"
        "exec /var/lang/bin/python3 - <<'END'\n"
        "import json, os, urllib.request\n"
        "api = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'\n"
        "while True:\n"
        "    with urllib.request.urlopen(api + 'next') as event:\n"
        "        request = event.headers['Lambda-Runtime-Aws-Request-Id']\n"
        "        event.read()\n"
        "    urllib.request.urlopen(api + request + '/response', b'\"from the layer\"').read()\n"
        "END\n"
    )
    layer = publish_files(product, "runtime", {"bootstrap": bootstrap})
    name = product.deploy({"data": ""}, Runtime="provided.al2023", Handler="any", Layers=[layer])
    assert product.invoke(name).value == "from the layer"


def test_five_are_merged_in_order(product: Product) -> None:
    """What several have is the last one's; what is a file in one and a directory in a later one is the later one's."""
    arns = [
        publish_files(
            product,
            f"five-{number}",
            {
                "python/who.py": f"WHO = {number}\n",
                f"python/only{number}.py": f"WHO = {number}\n",
                "changes" if number % 2 else "changes/inside": f"{number}",
            },
        )
        for number in range(1, 6)
    ]
    code = """
import importlib, os, who
def handler(event, context):
    return [who.WHO, [importlib.import_module(f"only{number}").WHO for number in range(1, 6)], open("/opt/changes").read()]
"""
    name = product.deploy(code, Layers=arns)
    assert product.invoke(name).value == [5, [1, 2, 3, 4, 5], "5"]
    product.client.update_function_configuration(FunctionName=name, Layers=arns[::-1])
    product.updated(name)
    assert product.invoke(name).value == [1, [1, 2, 3, 4, 5], "1"]
    with pytest.raises(ClientError, match=r"Cannot reference more than 5 layers\."):
        product.client.update_function_configuration(FunctionName=name, Layers=[*arns, publish(product, "six", six="6")])


def test_a_link_within_a_layer_works(product: Product) -> None:
    files = {"python/real.py": "WHO = 'linked'\n"}
    content = io.BytesIO(package(files))
    with zipfile.ZipFile(content, "a") as opened:
        entry = zipfile.ZipInfo("python/alias.py")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(entry, "real.py")
    answer = product.client.publish_layer_version(LayerName="linked", Content={"ZipFile": content.getvalue()})
    code = "import alias, os\ndef handler(event, context):\n    return [alias.WHO, os.readlink('/opt/python/alias.py')]\n"
    assert product.invoke(product.deploy(code, Layers=[answer["LayerVersionArn"]])).value == ["linked", "real.py"]


UNZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (lambda: archives.archive(("/etc/passwd", "evil")), UNZIP),
        (lambda: archives.archive(("python/../../evil", "evil")), UNZIP),
        (lambda: archives.link("/etc/passwd"), UNZIP),
        (lambda: archives.link("../../../etc/passwd"), UNZIP),
        (lambda: archives.through_a_link("/tmp", "evil"), UNZIP),
        (lambda: archives.archive(("device", ""), kind=stat.S_IFCHR), UNZIP),
        (archives.damaged, UNZIP),
        (lambda: b"no zip", UNZIP),
        (lambda: archives.bomb(251), "Unzipped size must be smaller than 262144000 bytes"),
        (lambda: archives.lying_bomb(251), UNZIP),
    ],
    ids=["absolute", "zip-slip", "link", "relative-link", "through-link", "device", "damaged", "no-zip", "bomb", "lying-bomb"],
)
def test_what_no_sandbox_should_ever_see(product: Product, content: Callable[[], bytes], text: str) -> None:
    """Refused when it is published: there is no version of it, and nothing of it in the code store."""
    store = product.instance.data_dir

    def stored() -> set[Path]:
        return {path for path in store.rglob("*") if "logs" not in path.parts and not path.name.startswith("lambent.db")}

    before, name = stored(), f"bad-{uuid.uuid4().hex[:8]}"
    with pytest.raises(ClientError) as caught:
        product.client.publish_layer_version(LayerName=name, Content={"ZipFile": content()})
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert caught.value.response["Error"]["Message"].startswith(text)
    assert product.client.list_layer_versions(LayerName=name)["LayerVersions"] == []
    eventually(lambda: stored() <= before)


def test_a_layer_for_another_architecture_is_not_refused(product: Product) -> None:
    """AWS lists by what a layer says it is good for, and refuses nobody for it; a word that is no architecture it does refuse."""
    other = "arm64" if platform.machine() == "x86_64" else "x86_64"
    content = {"ZipFile": package({"python/who.py": "WHO = 'other'\n"})}
    with pytest.raises(ClientError, match="ValidationException"):
        product.client.publish_layer_version(LayerName="other", Content=content, CompatibleArchitectures=["mips"])
    made = product.client.publish_layer_version(
        LayerName="other", Content=content, CompatibleArchitectures=[other], CompatibleRuntimes=["java21"]
    )
    listed = product.client.list_layers(CompatibleArchitecture=other, CompatibleRuntime="java21")["Layers"]
    assert "other" in [one["LayerName"] for one in listed]
    name = product.deploy("import who\ndef handler(event, context):\n    return who.WHO\n", Layers=[made["LayerVersionArn"]])
    assert product.invoke(name).value == "other"


def test_a_program_of_another_architecture_is_the_extensions_end(product: Product) -> None:
    """What a layer says is its word; what the kernel says to its program is told as AWS tells it."""
    elf = bytearray(64)
    elf[:20] = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + b"\xf3\x00"  # RISC-V, which no host of ours is
    content = package({"extensions/foreign": bytes(elf)})
    arn = product.client.publish_layer_version(LayerName="foreign", Content={"ZipFile": content})["LayerVersionArn"]
    name = product.deploy("def handler(event, context):\n    return 1\n", Layers=[arn])
    message = "fork/exec /opt/extensions/foreign: exec format error"
    expected.platform_says("Extension.LaunchError", message)(product.invoke(name))
    assert "EXTENSION\tName: foreign\tState: LaunchError\tEvents: []\tError Type: UnknownError" in product.log(name)


def test_none_at_all(product: Product) -> None:
    name = product.deploy("import os\ndef handler(event, context):\n    return os.listdir('/opt')\n")
    assert product.invoke(name).value == ["lib"]
