"""Node.js functions as plain processes, where Lambent is not root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandbox.outcome import Status
from tests.unit.node.harness import every_node, needs_node, nodes
from tests.unit.test_plain_driver import Bench, answer

pytestmark = [pytest.mark.slow, needs_node]

RUNTIME = list(nodes)[-1] if nodes else ""


@every_node
async def test_a_function(runtime: str, bench: Bench) -> None:
    files = {"index.mjs": "let n = 0; export const handler = async (event) => [event, ++n, process.cwd(), process.env.HOME]"}
    async with bench.opened(files, runtime=runtime, handler="index.handler") as user:
        for number in (1, 2):
            event, calls, directory, home = answer(await user.run(b'{"a": 1}'))
            assert (event, calls) == ({"a": 1}, number)
            assert Path(directory) == bench.directory / "code0"
            assert Path(home).is_relative_to(bench.directory.parent / "sandboxes")
            user.sandbox.freeze()


async def test_layers_and_a_wrapper(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "opt/nodejs/node_modules/lib").mkdir(parents=True)
    (tmp_path / "opt/nodejs/node_modules/lib/index.js").write_text("module.exports = 'from a layer'")
    files = {
        "index.js": "exports.handler = async () => [require('lib'), process.env.WRAPPED]",
        "bootstrap": '#!/bin/sh\nexport WRAPPED=yes\nexec "$@"\n',
    }
    spec = {"runtime": RUNTIME, "handler": "index.handler", "opt_path": str(tmp_path / "opt")}
    async with bench.opened(files, **spec, environment={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/bootstrap"}) as user:
        assert answer(await user.run()) == ["from a layer", "yes"]


async def test_an_end_and_what_comes_after(bench: Bench) -> None:
    code = {"index.js": "exports.handler = async (event) => event === 1 ? process.exit(3) : 'well'"}
    async with bench.opened(code, runtime=RUNTIME, handler="index.handler") as user:
        outcome = await user.run(b"1")
        assert outcome.status is Status.FAILURE
        assert json.loads(outcome.payload)["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")
        assert answer(await user.run(b"2")) == "well"
