"""Node.js functions in real sandboxes: stems, what a stem cannot be, layers, limits, failures, and what a cold start costs."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandbox.testing import PlainLog
from tests.processes import of_spawner
from tests.real import extensions
from tests.real.product import Product, eventually, package
from tests.real.spawned import spawned
from tests.sandboxes import User
from tests.unit.node.harness import needs_node, nodes

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60), needs_node]

RUNTIME = list(nodes)[-1] if nodes else ""
MAJOR = RUNTIME.removeprefix("nodejs").removesuffix(".x")
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


def deploy(product: Product, code: str | dict[str, str], **settings: Any) -> str:
    variables = settings.pop("environment", {})
    files = {"index.js": code} if isinstance(code, str) else code
    usual = {"Runtime": RUNTIME, "Handler": "index.handler", "Timeout": 20, "Environment": {"Variables": variables}}
    return product.deploy(files, **{**usual, **settings})


def run(product: Product, code: str | dict[str, str], event: object = None, **settings: Any) -> Any:
    """What a new function answers."""
    answer = product.invoke(deploy(product, code, **settings), event)
    assert answer.function_error is None, (answer.payload, answer.log)
    return answer.value


def test_a_function_sees_what_it_sees_on_aws(product: Product) -> None:
    found = run(product, INTROSPECTION, environment={"TABLE": "t"})
    assert found["argv"] == ["/var/lang/bin/node", "/var/runtime/index.mjs"]
    assert found["execPath"] == "/var/lang/bin/node"
    assert found["cwd"] == "/var/task"
    assert found["user"] == "sbx_user1051"
    assert found["zone"] == 0
    assert found["main"]
    assert found["name"] == "en-US"
    assert found["env"]["NODE_PATH"] == (
        f"/opt/nodejs/node{MAJOR}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
    )
    assert found["env"]["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{RUNTIME}"
    assert found["env"]["TABLE"] == "t"
    assert found["env"]["_HANDLER"] == "index.handler"
    assert found["env"]["AWS_SECRET_ACCESS_KEY"]
    assert "Max open files            1024                 1024" in found["limits"]
    assert "Max processes             742                  742" in found["limits"]
    assert "NoNewPrivs:\t1" in found["status"]
    assert "Seccomp:\t2" in found["status"]
    assert "CapEff:\t0000000000000000" in found["status"]


def test_a_stem_is_as_good_as_a_fresh_process(product: Product) -> None:
    """NODE_OPTIONS come too late for a stem; with some that change nothing the function has to see the same, flags apart."""
    stem = run(product, INTROSPECTION)
    fresh = run(product, INTROSPECTION, environment={"NODE_OPTIONS": "--stack-trace-limit=10"})
    assert [flag.split("=")[0] for flag in stem["flags"]] == [flag.split("=")[0] for flag in fresh["flags"]]
    assert fresh["heap"] < 256 << 20
    assert stem["heap"] > 9 << 30
    for found in (stem, fresh):
        for name in ("NODE_OPTIONS", "_X_AMZN_TRACE_ID", "AWS_LAMBDA_FUNCTION_NAME"):
            found["env"].pop(name, None)
        for name in [name for name in found["env"] if name.startswith("AWS_LAMBDA_LOG_")]:
            del found["env"][name]
        found["fds"] = sorted({name.split(":")[0] for name in found["fds"] if not name.startswith(("anon_inode", "/"))})
    for name in ("env", "argv", "cwd", "user", "zone", "main", "name", "limits", "fds"):
        assert stem[name] == fresh[name], name


def test_what_a_process_reads_at_its_start_is_heeded(product: Product) -> None:
    code = "exports.handler = async () => [process.env.NODE_OPTIONS, Error.stackTraceLimit]"
    name = deploy(product, code, environment={"NODE_OPTIONS": "--stack-trace-limit=3"})
    for _ in range(2):
        assert product.invoke(name).value == ["--stack-trace-limit=3", 3]


def test_an_exec_wrapper_gets_the_runtime_as_its_arguments(product: Product) -> None:
    files = {
        "index.js": "exports.handler = async () => [process.env.WRAPPED, process.argv.length]",
        "wrap": '#!/bin/sh\nexport WRAPPED="$1"\nexec "$@"\n',
    }
    assert run(product, files, environment={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}) == ["/var/lang/bin/node", 2]


def test_layers_are_found_by_require_and_by_import(product: Product) -> None:
    layer = package(
        {
            "nodejs/node_modules/common/index.js": "module.exports = 'common, ' + require('other')",
            "nodejs/node_modules/other/index.js": "module.exports = 'other'",
            "nodejs/node_modules/both/index.js": "module.exports = 'for all'",
            f"nodejs/node{MAJOR}/node_modules/both/index.js": "module.exports = 'for this version'",
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
    arn = product.client.publish_layer_version(LayerName="node-modules", Content={"ZipFile": layer})["LayerVersionArn"]
    assert run(product, code, Layers=[arn]) == ["common, other", "for this version"]
    assert run(product, code, Layers=[arn], Handler="esm.handler") == ["common, other", "for this version", "module"]


def test_the_hosts_packages_are_not_there(product: Product) -> None:
    code = "exports.handler = async () => { try { require('npm'); return 'found' } catch (error) { return error.code } }"
    assert run(product, code) == "MODULE_NOT_FOUND"


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


@pytest.mark.parametrize(("code", "kind", "message"), FAILURES, ids=[message for _, _, message in FAILURES])
def test_failures_are_told_and_the_next_invocation_finds_a_new_process(
    product: Product, code: str, kind: str, message: str
) -> None:
    name = deploy(product, code)
    for _ in range(2):
        answer = product.invoke(name)
        assert answer.function_error == "Unhandled"
        assert answer.value["errorType"] == kind
        assert message in answer.value["errorMessage"]


def test_out_of_memory_is_an_end_like_any_other(product: Product) -> None:
    """By V8's own limit or by the kernel's: which comes first is V8's business, and on AWS too."""
    code = "const all = []; exports.handler = async (fill) => { while (fill) all.push('x'.repeat(1 << 20) + all.length) }"
    name = deploy(product, code)
    assert product.invoke(name, 1).value["errorType"] in ("Runtime.ExitError", "Runtime.OutOfMemory")
    assert product.invoke(name).value is None


def test_garbage_is_collected_in_time_in_a_small_function(product: Product) -> None:
    """80 MB alive and as much garbage again and again: with V8's usual growth of the heap that is killed for its memory."""
    code = """
    const make = (size, mark) => Array.from({length: size}, (_, i) => ({i, s: mark + i, a: [i]}))
    const kept = []
    exports.handler = async () => {
      kept.push(make(150000, 'x'))
      for (let round = 0; round < 60; round++) kept.push(make(50000, 'y' + round)[0])
      return kept.length
    }
    """
    assert run(product, code) == 61


def test_a_function_that_takes_too_long_gets_a_new_process(product: Product) -> None:
    code = (
        "let n = 0; exports.handler = async (hang) => { n++; if (hang) await new Promise((r) => setTimeout(r, 6e5)); return n }"
    )
    name = deploy(product, code, Timeout=1)
    assert product.invoke(name).value == 1
    assert product.invoke(name, 1).value["errorType"] == "Sandbox.Timedout"
    assert product.invoke(name).value == 1


async def test_a_cold_start_from_a_stem_takes_half_of_a_fresh_node_at_most(tmp_path: Path) -> None:
    """Alternating, medians of five: specialise to answer, against `node` that only loads and runs the same handler."""
    script = "require(process.argv[1]).handler({}).then((answer) => console.log(JSON.stringify(answer)))"
    cold, fresh = [], []
    async with spawned(tmp_path, f"node-{os.getpid()}") as host:
        spec = host.spec({"index.js": ECHO}, runtime=RUNTIME, handler="index.handler")
        command = [str(nodes[RUNTIME].executable), "-e", script, f"{spec.code_path}/index.js"]
        for _ in range(5):
            user = User(await host.open(spec))
            try:
                began = time.monotonic()
                await user.sandbox.init(spec, PlainLog(user.write_log))
                assert json.loads((await user.run()).payload) == {}
                cold.append(time.monotonic() - began)
            finally:
                await user.sandbox.stop()
            began = time.monotonic()
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
            fresh.append(time.monotonic() - began)
            assert json.loads(done.stdout) == {}
        assert not of_spawner(host.pid)[1]
    assert statistics.median(cold) <= 0.5 * statistics.median(fresh), (cold, fresh)


def test_many_first_invocations_at_once(product: Product) -> None:
    """A complaint about peers: fifteen to twenty parallel invocations of one Node.js function hang."""
    name = deploy(product, "exports.handler = async (event) => { await new Promise((r) => setTimeout(r, 300)); return event }")
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda number: product.invoke(name, number).value, range(24)))
    assert answers == list(range(24))


def test_answers_around_the_limit(product: Product) -> None:
    name = deploy(product, "exports.handler = async (size) => 'x'.repeat(size)", MemorySize=512)
    limit = 6 * 1024 * 1024 + 100
    assert len(product.invoke(name, limit - 2).payload) == limit
    assert product.invoke(name, limit - 1).value["errorType"] == "Function.ResponseSizeTooLarge"
    assert product.invoke(name, 3 * limit).value["errorType"] == "Function.ResponseSizeTooLarge"
    assert product.invoke(name, 1).value == "x"


def test_streams_that_break_off_or_never_end(product: Product) -> None:
    code = """
    exports.handler = awslambda.streamifyResponse(async (event, stream) => {
      stream.write('begun')
      if (event === 'throw') throw new RangeError('in the middle')
      if (event === 'aside') setImmediate(() => { throw new TypeError('aside') })
      if (event) await new Promise((resolve) => setTimeout(resolve, 60000))
      stream.end()
    })
    """
    name = deploy(product, code, Timeout=1)
    for event, error in (("throw", "RangeError"), ("aside", "TypeError"), ("hang", "timed out after 1.00 seconds"), (None, "")):
        answer = product.client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event))
        events = list(answer["EventStream"])
        assert b"".join(each["PayloadChunk"]["Payload"] for each in events if "PayloadChunk" in each) == b"begun"
        end = events[-1]["InvokeComplete"]
        assert ("ErrorCode" in end) == bool(error)
        assert error in end.get("ErrorDetails", "")


@pytest.mark.parametrize("variables", [{}, {"NODE_OPTIONS": "--stack-trace-limit=5"}], ids=["stem", "fresh"])
def test_with_an_extension_the_function_is_told_to_end(product: Product, variables: dict[str, str]) -> None:
    if "shell" not in extensions.LANGUAGES:
        pytest.skip("this host has nothing that runs a shell extension in a sandbox")
    arn = extensions.layer(product, {"agent": extensions.LANGUAGES["shell"]})
    code = (
        "process.on('SIGTERM', () => { console.log('told to end'); process.exit(0) }); exports.handler = async (event) => event"
    )
    name = deploy(product, code, Layers=[arn], environment=variables)
    assert [product.invoke(name, number).value for number in range(2)] == [0, 1]
    product.client.update_function_configuration(FunctionName=name, Description="another generation")
    product.updated(name)
    eventually(lambda: not product.sandboxes(name))
    eventually(lambda: any(line.endswith("INFO\ttold to end") for line in product.log(name)))
    told = [one["eventType"] for one in extensions.said(product, name, "agent") if "eventType" in one]
    assert told == ["INVOKE", "INVOKE", "SHUTDOWN"]
