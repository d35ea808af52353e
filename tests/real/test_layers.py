"""Layers in real sandboxes: what is at /opt, in which order, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from tests.real.product import PYTHON, Product, package

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


def test_none_at_all(product: Product) -> None:
    name = product.deploy("import os\ndef handler(event, context):\n    return os.listdir('/opt')\n")
    assert product.invoke(name).value == ["lib"]
