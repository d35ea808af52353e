"""Node.js functions in real sandboxes: stems, what a stem cannot be, layers, limits, failures, and what a cold start costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.outcome import Outcome, Status
from tests.processes import of_spawner
from tests.real.spawned import Spawned, spawned
from tests.sandboxes import User
from tests.unit.node.harness import needs_node, nodes

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60), needs_node]

RUNTIME = list(nodes)[-1] if nodes else ""
ECHO = "exports.handler = async (event) => event"
INTROSPECTION = """
const fs = require('fs')
exports.handler = async () => ({
  env: process.env, argv: process.argv, execPath: process.execPath, cwd: process.cwd(), uid: process.getuid(), pid: process.pid,
  user: require('os').userInfo().username, limits: fs.readFileSync('/proc/self/limits', 'utf8'), flags: process.execArgv,
  fds: fs.readdirSync('/proc/self/fd').map((fd) => { try { return fs.readlinkSync('/proc/self/fd/' + fd) } catch { return '' } }),
  zone: new Date().getTimezoneOffset(), main: require.main === undefined, name: Intl.DateTimeFormat().resolvedOptions().locale,
  status: fs.readFileSync('/proc/self/status', 'utf8'), heap: require('v8').getHeapStatistics().heap_size_limit,
})
"""


@pytest.fixture
async def host(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Spawned]:
    async with spawned(tmp_path, f"node-{os.getpid()}-{abs(hash(request.node.nodeid)) % 10000}") as found:
        yield found
        assert not of_spawner(found.pid)[1]


@contextlib.asynccontextmanager
async def opened(host: Spawned, code: str | dict[str, str], **changes: Any) -> AsyncIterator[User]:
    files = {"index.js": code} if isinstance(code, str) else code
    spec = host.spec(files, **{"runtime": RUNTIME, "handler": "index.handler", **changes})
    user = User(await host.open(spec))
    try:
        await user.sandbox.init(spec, user.write_log)
        yield user
    finally:
        await user.sandbox.stop()


def answer(outcome: Outcome) -> Any:
    assert outcome.status is Status.SUCCESS, outcome
    return json.loads(outcome.payload)


async def test_a_function_sees_what_it_sees_on_aws(host: Spawned) -> None:
    async with opened(host, INTROSPECTION, environment={"TABLE": "t"}) as user:
        found = answer(await user.run())
        assert found["argv"] == ["/var/lang/bin/node", "/var/runtime/index.mjs"]
        assert found["execPath"] == "/var/lang/bin/node"
        assert found["cwd"] == "/var/task"
        assert found["user"] == "sbx_user1051"
        assert found["zone"] == 0
        assert found["main"]
        assert found["name"] == "en-US"
        major = RUNTIME.removeprefix("nodejs").removesuffix(".x")
        assert found["env"]["NODE_PATH"] == (
            f"/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
        )
        assert found["env"]["TABLE"] == "t"
        assert found["env"]["_HANDLER"] == "index.handler"
        assert "Max open files            1024                 1024" in found["limits"]
        assert "NoNewPrivs:\t1" in found["status"]
        assert "Seccomp:\t2" in found["status"]
        assert "CapEff:\t0000000000000000" in found["status"]
        assert user.log == b""


async def test_a_stem_is_as_good_as_a_fresh_process(host: Spawned) -> None:
    """NODE_OPTIONS come too late for a stem; with some that change nothing the function has to see the same, flags apart."""
    seen = []
    for options in ({}, {"NODE_OPTIONS": "--stack-trace-limit=10"}):
        async with opened(host, INTROSPECTION, environment=options) as user:
            seen.append(answer(await user.run()))
    stem, fresh = seen
    assert stem["flags"] == [flag for flag in fresh["flags"] if not flag.startswith("--max-old-space-size")]
    assert fresh["heap"] < 256 << 20
    for found in seen:
        found["env"].pop("NODE_OPTIONS", None)
        found["fds"] = [name.split(":")[0] for name in found["fds"] if not name.startswith(("anon_inode", "/"))]
    for name in ("env", "argv", "cwd", "user", "zone", "main", "name", "limits"):
        assert stem[name] == fresh[name], name


async def test_what_a_process_reads_at_its_start_is_heeded(host: Spawned) -> None:
    code = "exports.handler = async () => [process.env.NODE_OPTIONS, Error.stackTraceLimit, process.execArgv.length > 2]"
    async with opened(host, code, environment={"NODE_OPTIONS": "--stack-trace-limit=3"}) as user:
        assert answer(await user.run()) == ["--stack-trace-limit=3", 3, True]
        assert answer(await user.run()) == ["--stack-trace-limit=3", 3, True]


async def test_an_exec_wrapper_gets_the_runtime_as_its_arguments(host: Spawned) -> None:
    files = {"index.js": "exports.handler = async () => [process.env.WRAPPED, process.argv.length]"}
    spec = host.spec(files, runtime=RUNTIME, handler="index.handler", environment={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"})
    wrapper = Path(spec.code_path) / "wrap"
    wrapper.write_text('#!/bin/sh\nexport WRAPPED="$1"\nexec "$@"\n')
    wrapper.chmod(0o755)
    user = User(await host.open(spec))
    try:
        await user.sandbox.init(spec, user.write_log)
        assert answer(await user.run()) == ["/var/lang/bin/node", 2]
    finally:
        await user.sandbox.stop()


async def test_layers_are_found_by_require_and_by_import(host: Spawned) -> None:
    major = RUNTIME.removeprefix("nodejs").removesuffix(".x")
    layer = host.package(
        {
            "nodejs/node_modules/common/index.js": "module.exports = 'common, ' + require('other')",
            "nodejs/node_modules/other/index.js": "module.exports = 'other'",
            "nodejs/node_modules/both/index.js": "module.exports = 'for all'",
            f"nodejs/node{major}/node_modules/both/index.js": "module.exports = 'for this version'",
            "nodejs/node_modules/mod/package.json": '{"type": "module", "exports": "./index.js"}',
            "nodejs/node_modules/mod/index.js": "export default 'module'",
        }
    )
    code = {
        "index.js": "exports.handler = async () => [require('common'), require('both')]",
        "esm.mjs": "import common from 'common'; import both from 'both'; import mod from 'mod';"
        "export const handler = async () => [common, both, mod]",
        "node_modules/own/index.js": "",
    }
    async with opened(host, code, opt_path=layer) as user:
        assert answer(await user.run()) == ["common, other", "for this version"]
    async with opened(host, code, opt_path=layer, handler="esm.handler") as user:
        assert answer(await user.run()) == ["common, other", "for this version", "module"]


async def test_the_hosts_packages_are_not_there(host: Spawned) -> None:
    code = "exports.handler = async () => { try { require('npm'); return 'found' } catch (error) { return error.code } }"
    async with opened(host, code) as user:
        assert answer(await user.run()) == "MODULE_NOT_FOUND"


FAILURES = [
    ("throw new Error('at init')", "Error", "at init"),
    ("require('nothing-like-it')", "Runtime.ImportModuleError", "Error: Cannot find module 'nothing-like-it'"),
    ("process.exit(3)", "Runtime.ExitError", "Runtime exited with error: exit status 3"),
    ("exports.handler = async () => { throw new TypeError('t') }", "TypeError", "t"),
    ("exports.handler = async () => process.abort()", "Runtime.ExitError", "Runtime exited with error: signal: aborted"),
    (
        "exports.handler = async () => { setTimeout(() => { throw new Error('a') }); await new Promise(() => {}) }",
        "Error",
        "a",
    ),
]


async def test_failures_are_told_and_the_next_invocation_finds_a_new_process(host: Spawned) -> None:
    for code, kind, message in FAILURES:
        async with opened(host, code) as user:
            for _ in range(2):
                outcome = await user.run()
                assert outcome.status is not Status.SUCCESS
                document = json.loads(outcome.payload)
                assert document["errorType"] == kind
                assert message in document["errorMessage"]


async def test_out_of_memory_is_an_end_like_any_other(host: Spawned) -> None:
    """By V8's own limit or by the kernel's: which comes first is V8's business, and on AWS too."""
    code = "const all = []; exports.handler = async (event) => { while (event.fill) all.push('x'.repeat(1 << 20) + all.length) }"
    async with opened(host, code) as user:
        outcome = await user.run(b'{"fill": true}', timeout_s=30)
        document = json.loads(outcome.payload)
        assert document["errorType"] in ("Runtime.ExitError", "Runtime.OutOfMemory")
        assert answer(await user.run()) is None


async def test_garbage_is_collected_in_time_in_a_small_function(host: Spawned) -> None:
    """30 MB alive and 2 GB of garbage around it: V8's usual growth by four would not fit 128 MB."""
    code = """
    const kept = Array.from({length: 30}, (_, i) => Array.from({length: 1 << 17}, () => i))
    const waste = (i) => Array.from({length: 1 << 16}, () => i + 0.5).length
    exports.handler = async () => { let n = 0; for (let i = 0; i < 2000; i++) n += waste(i); return n }
    """
    async with opened(host, code) as user:
        outcome = await user.run(timeout_s=30)
        assert answer(outcome) == 2000 << 16
        assert outcome.max_memory_bytes <= 128 << 20


async def test_a_function_that_takes_too_long_gets_a_new_process(host: Spawned) -> None:
    code = (
        "let n = 0; exports.handler = async ({hang}) => { n++; if (hang) await new Promise((r) => setTimeout(r, 6e5)); return n }"
    )
    async with opened(host, code) as user:
        assert answer(await user.run()) == 1
        outcome = await user.run(b'{"hang": 1}', timeout_s=0.2)
        assert outcome.status is Status.TIMEOUT
        assert answer(await user.run()) == 1


async def test_frozen_and_thawed(host: Spawned) -> None:
    async with opened(host, ECHO) as user:
        for number in range(3):
            assert answer(await user.run(b"%d" % number)) == number
            user.sandbox.freeze()


async def test_a_cold_start_from_a_stem_takes_half_of_a_fresh_node_at_most(host: Spawned) -> None:
    """Alternating, medians of five: specialise to answer, against `node` that only loads and runs the same handler."""
    spec = host.spec({"index.js": ECHO}, runtime=RUNTIME, handler="index.handler")
    script = "require(process.argv[1]).handler({}).then((answer) => console.log(JSON.stringify(answer)))"
    cold, fresh = [], []
    for _ in range(5):
        user = User(await host.open(spec))
        try:
            began = time.monotonic()
            await user.sandbox.init(spec, user.write_log)
            assert answer(await user.run()) == {}
            cold.append(time.monotonic() - began)
        finally:
            await user.sandbox.stop()
        command = [str(nodes[RUNTIME].executable), "-e", script, f"{spec.code_path}/index.js"]
        began = time.monotonic()
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
        fresh.append(time.monotonic() - began)
        assert json.loads(done.stdout) == {}
    assert statistics.median(cold) <= 0.5 * statistics.median(fresh), (cold, fresh)
