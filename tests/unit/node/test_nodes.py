"""Which Node.js are found, believed and chosen, and what their sandboxes are made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sandbox.environment import compose
from sandbox.native import nodes, plan, searching, trees
from sandbox.native.nodes import Node
from tests.sandboxes import SPEC
from tests.unit.node import harness
from tests.unit.test_interpreters import made


def node(version: str, place: str = "/opt/node/bin/node") -> Node:
    major, minor, patch = map(int, version.split("."))
    return Node((major, minor, patch), Path(place))


@harness.needs_node
def test_this_hosts_nodes_are_what_they_say() -> None:
    for found in nodes.find_nodes():
        assert found.executable.resolve() == found.executable
        assert found.libraries is None or found.libraries.is_dir()
        assert found.version[0] in nodes.MAJORS


def test_version_managers_directories_are_searched(tmp_path: Path) -> None:
    home, root = tmp_path / "home", tmp_path / "root"
    places = [
        home / ".nvm/versions/node/v20.1.0/bin",
        home / ".local/share/fnm/node-versions/v22.1.0/installation/bin",
        home / ".volta/tools/image/node/18.1.0/bin",
        home / "n/n/versions/node/24.1.0/bin",
        root / "opt/node/bin",
        root / "usr/local/n/versions/node/20.2.0/bin",
        tmp_path / "nvm/versions/node/v20.3.0/bin",
    ]
    for place in places:
        place.mkdir(parents=True)
        (place / "node").write_bytes(b"\x7fELF" + str(place).encode())
        (place / "node").chmod(0o755)
    directories = nodes.PLACES.directories(root, [home], {"PATH": "relative:", "NVM_DIR": str(tmp_path / "nvm")})
    assert {path.parent for path in searching.candidates(directories, nodes.is_name)} == set(places)


def test_scripts_and_other_programs_are_no_candidates(tmp_path: Path) -> None:
    for name, content in (("node", b"#!/bin/sh\nexec other\n"), ("node-gyp", b"\x7fELF"), ("nodemon", b"\x7fELF")):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o755)
    assert searching.candidates([tmp_path, tmp_path / "absent"], nodes.is_name) == []


@pytest.mark.parametrize(
    "answer",
    ["", "nonsense", "[]", '["bun", "20.1.0", null]', '["node", "21.1.0", null]', '["node", "20.1.0-nightly", null]', "5"],
)
def test_what_is_not_believed(answer: str) -> None:
    assert nodes.read_answer(Path("/opt/node/bin/node"), answer) is None


def test_what_is_believed() -> None:
    found = nodes.read_answer(Path("/opt/node/bin/node"), '["node", "20.11.1", null]')
    assert found == node("20.11.1")
    assert found.runtime == "nodejs20.x"
    linked = nodes.read_answer(Path("/opt/conda/bin/node"), '["node", "20.11.1", "/opt/conda/lib/"]')
    assert linked is not None
    assert linked.libraries == Path("/opt/conda/lib")


def test_of_each_major_version_the_newest_is_taken() -> None:
    assert nodes.best([node("20.1.0"), node("22.0.1"), node("20.10.0"), node("20.9.0")]) == [node("20.10.0"), node("22.0.1")]


def test_runtimes_are_served_or_it_is_said_what_to_install() -> None:
    known = trees.support([made("3.12.1")], [node("20.1.0")])
    assert known["nodejs20.x"].available
    assert known["nodejs20.x"].detail == "Node.js 20.1.0 at /opt/node/bin/node"
    assert "`nvm install 22`" in known["nodejs22.x"].detail
    assert known["python3.12"].available
    without = trees.support([], [node("20.1.0")])
    assert not without["nodejs20.x"].available
    assert "needs a Python" in without["nodejs20.x"].detail


def test_trees() -> None:
    found = trees.trees([made("3.12.1"), made("3.13.0", "_ctypes")], [node("20.1.0")])
    assert set(found) == {"python3.12", "provided.al2", "provided.al2023", "nodejs20.x"}
    python, tree = found["python3.12"], found["nodejs20.x"]
    assert (python.parts, python.python, python.interpreter, python.home) == (
        {"/var/lang": "/opt/python"}, "/var/lang/bin/python3.12", "/var/lang/bin/python3.12", "/var/lang",
    )  # fmt: skip
    assert (tree.parts, tree.python, tree.interpreter, tree.home) == (
        {"/var/lambent": "/opt/python", "/var/lang/bin/node": "/opt/node/bin/node"},
        "/var/lambent/bin/python3.12", "/var/lang/bin/node", "/var/lambent",
    )  # fmt: skip
    assert tree.links["/node_modules"] == "/opt/nodejs/node_modules"
    assert trees.trees([], [node("20.1.0")]) == {}
    linked = Node((20, 1, 0), Path("/opt/conda/bin/node"), Path("/opt/conda/lib"))
    assert trees.trees([made("3.12.1")], [linked])["nodejs20.x"].parts["/var/lang/lib"] == "/opt/conda/lib"


@pytest.mark.parametrize(
    ("variable", "way"),
    [("NODE_OPTIONS", "exec"), ("NODE_EXTRA_CA_CERTS", "exec"), ("LC_ALL", "exec"), ("UV_THREADPOOL_SIZE", "exec"),
     ("AWS_LAMBDA_EXEC_WRAPPER", "exec"), ("LD_PRELOAD", "exec"), ("SSL_CERT_FILE", "exec"),
     ("NODE_ENV", "fork"), ("NODE_PATH", "fork"), ("PYTHONPATH", "fork"), ("TABLE", "fork"), ("TZ", "fork")],
)  # fmt: skip
def test_what_comes_too_late_for_a_stem_gets_a_fresh_process(variable: str, way: str) -> None:
    assert plan.choose("nodejs20.x", [variable], ["json"], {"json"}) == way


def test_the_environment_is_the_recorded_one() -> None:
    """Recorded for nodejs16.x on 2023-11-20; the members that name a function or the host are not compared."""
    found = compose(dataclasses.replace(SPEC, runtime="nodejs20.x"), "127.0.0.1:9001")
    assert found["NODE_PATH"] == (
        "/opt/nodejs/node20/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
    )
    assert found["AWS_EXECUTION_ENV"] == "AWS_Lambda_nodejs20.x"
    assert "PYTHONPATH" not in found
    assert "LC_CTYPE" not in found
    assert (found["LANG"], found["TZ"], found["SHLVL"], found["PWD"]) == ("en_US.UTF-8", ":UTC", "0", "/var/task")
