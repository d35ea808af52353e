# ruff: noqa: E501 (one case a line)
"""Everything that goes wrong, one case a line: packages, functions and clients at their worst, on real sandboxes.

Each case asserts what AWS answers, that the function and another one work right afterwards, and that the gateway is the same
process as before. When all are through, nothing of them is left: no process, cgroup, disk or descriptor.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from gateway.cli.bench.instance import Instance
from sandbox.native.cgroups import Cgroups
from sandbox.native.config import SPARE_GROUPS, SPARE_VOLUMES
from tests import leftovers
from tests.processes import Family, children, descriptors
from tests.real import archives
from tests.real.expected import (
    TIMED_OUT,
    TORN,
    Checked,
    answers,
    ends_by,
    exits,
    fails_to_start,
    platform_says,
    reports,
    too_large,
)
from tests.real.product import PYTHON, ROLE, Answer, Product, connected, eventually, received

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

SIX_MB = 6 * 1024 * 1024
RIGHT_AFTERWARDS_S = 2.0  #: for a warm function of 1 ms, on a machine with other work
OTHER_DESCRIPTORS = 4  #: that may come and go: a client's connection, the database's files
DESCRIPTORS_OF_A_SANDBOX = 8  #: that the gateway has: Runtime API connection and listener, each twice, log, freezer, memory twice

ENDLESS = "endless-init"

Healthy = Callable[[], None]


@pytest.fixture(scope="module")
def healthy(lambent_up: Instance, lambda_client: LambdaClient) -> Iterator[Healthy]:
    """Call it to see that gateway and spawner are the processes that they were, and that another function answers right now."""
    product = Product(lambent_up, lambda_client)
    eventually(lambda: not left_over(lambent_up, set(lambent_up.status()["functions"])))
    at_first, not_ours = descriptors_besides(lambent_up), set(lambent_up.status()["functions"])
    name = product.deploy(archives.HANDLER, Timeout=10)
    product.invoke(name)
    before = product.family

    def check() -> None:
        answer = product.invoke(name, {"are you": "well"})
        assert (answer.function_error, answer.value) == (None, {"are you": "well"})
        assert answer.took_s < RIGHT_AFTERWARDS_S
        now = product.family
        assert (now.gateway, now.spawner) == (before.gateway, before.spawner)

    yield check
    check()
    product.clear()
    with contextlib.suppress(AssertionError):
        eventually(lambda: not left_over(lambent_up, not_ours))
    assert left_over(lambent_up, not_ours) == []
    assert descriptors_besides(lambent_up) <= at_first + OTHER_DESCRIPTORS


@pytest.fixture(scope="module", autouse=True)
def endless(lambent_up: Instance, lambda_client: LambdaClient, healthy: Healthy) -> Iterator[Future[Answer]]:
    """An invocation of a function whose Init never ends, begun before all tests: it takes eleven seconds."""
    product = Product(lambent_up, lambda_client)
    product.deploy("import time\ntime.sleep(60)", FunctionName=ENDLESS, Timeout=1)
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(product.invoke, ENDLESS)
    product.clear()


def left_over(instance: Instance, not_ours: set[str]) -> list[str]:
    """What there is besides what is kept ready for the next function, and the sandboxes of functions that are not ours."""
    status = instance.status()
    found = [f"sandboxes of {name}" for name in status["functions"] if name not in not_ours]
    found += [f"sandboxes that are {state}" for state in status["sandboxes"] if state not in ("stem", "idle", "frozen")]
    expected = sum(status["sandboxes"].values())
    family = Family(instance.process.pid)
    zombies = [child for parent in (family.spawner, *family.inits) for child in children(parent) if child.state == "Z"]
    cgroups = [os.scandir(base / "sandboxes") for base in Cgroups(status["owner"]).bases]
    counts = {
        "inits": len(family.inits) - expected,
        "runtimes": len(family.runtimes) - expected,
        "zombies": len(zombies),
        "cgroups": max(0, max(sum(entry.is_dir() for entry in entries) for entries in cgroups) - expected - SPARE_GROUPS),
        "disks": max(0, sum(str(instance.data_dir) in file for _, file in leftovers.loops()) - expected - SPARE_VOLUMES),
    }
    return found + [f"{count} {what}" for what, count in counts.items() if count]


def descriptors_besides(instance: Instance) -> int:
    """How many descriptors the gateway has that are not a sandbox's."""
    sandboxes: int = sum(instance.status()["sandboxes"].values())
    return descriptors(Family(instance.process.pid).gateway) - sandboxes * DESCRIPTORS_OF_A_SANDBOX


# Packages.

UNZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."


def package(title: str, archive: Callable[[], bytes], message: str, status: int = 400) -> Any:
    return pytest.param(archive, message, status, id=title)


# fmt: off
PACKAGES = [
    package("empty", lambda: b"", "Uploaded file must be a non-empty zip"),
    package("nothing in it", lambda: archives.archive(), "Uploaded file must be a non-empty zip"),
    package("malformed zip: text", lambda: b"def handler(event, context): pass", UNZIP),
    package("malformed zip: cut off", lambda: archives.good()[:-30], UNZIP),
    package("malformed zip: damaged", archives.damaged, UNZIP),
    package("zip slip: upwards", lambda: archives.archive(("../lambent-evil", "evil")), UNZIP),
    package("zip slip: upwards in the middle", lambda: archives.archive(("a/../../../lambent-evil", "evil")), UNZIP),
    package("zip slip: absolute", lambda: archives.archive(("/tmp/lambent-evil", "evil")), UNZIP),
    package("zip slip: a link that leads out", lambda: archives.link("/etc"), UNZIP),
    package("zip slip: through a link", lambda: archives.through_a_link("/tmp", "lambent-evil"), UNZIP),
    package("a device", lambda: archives.archive(("disk", ""), kind=stat.S_IFBLK), UNZIP),
    package("zip bomb", lambda: archives.bomb(300), "Unzipped size must be smaller than 262144000 bytes"),
    package("zip bomb that lies about its size", lambda: archives.lying_bomb(300), UNZIP),
    package("too large", lambda: archives.large(50), "Zipped size must be smaller than 52428800 bytes", 413),
    package("far too large", lambda: archives.large(55), "Request must be smaller than 70167211 bytes for the CreateFunction operation", 413),
]
# fmt: on


@pytest.mark.parametrize(("archive", "message", "status"), PACKAGES)
def test_package(product: Product, healthy: Healthy, archive: Callable[[], bytes], message: str, status: int) -> None:
    with pytest.raises(ClientError) as caught:
        product.client.create_function(
            FunctionName="bad-package", Runtime=PYTHON, Handler="app.handler", Role=ROLE, Code={"ZipFile": archive()}
        )
    error = caught.value.response["Error"]
    code = "InvalidParameterValueException" if status == 400 else "RequestEntityTooLargeException"
    assert (caught.value.response["ResponseMetadata"]["HTTPStatusCode"], error["Code"]) == (status, code)
    assert error["Message"].startswith(message)
    with pytest.raises(product.client.exceptions.ResourceNotFoundException):
        product.client.get_function(FunctionName="bad-package")
    names = [path.name for path in product.instance.data_dir.rglob("*")]
    assert not [name for name in names if name == "lambent-evil" or name.startswith("new-")]
    assert not os.path.exists("/tmp/lambent-evil")
    healthy()


def test_a_refused_update_changes_nothing(product: Product, healthy: Healthy) -> None:
    name = product.deploy("def handler(event, context):\n    return 'old'\n")
    for archive in (b"no zip file", archives.link("/etc"), archives.bomb(300)):
        with pytest.raises(ClientError, match=r"unzip|Unzipped"):
            product.client.update_function_code(FunctionName=name, ZipFile=archive)
        assert product.client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Successful"
        assert product.invoke(name).value == "old"
    healthy()


# Functions.

#: What the bodies below may use. A second call, with "well", tells whether the function works again, and what it has `seen`.
PRELUDE = """
import ctypes, itertools, os, signal, socket, subprocess, sys, threading, time
seen = []
def connect():
    host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
    return socket.create_connection((host, int(port)))
def post(request_id, body, length=None):
    connection = connect()
    head = "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\nHost: h\\r\\nContent-Length: %d\\r\\n\\r\\n"
    connection.sendall((head % (request_id, length or len(body))).encode() + body)
    return connection
def status(connection):
    return int(connection.makefile("rb").readline().split()[1])
def killed_by_another(signal_name):
    subprocess.Popen(["sh", "-c", "kill -%s $PPID" % signal_name])
    time.sleep(60)
def try_for_ever(action):
    while True:
        try: action()
        except (OSError, RuntimeError): pass
def handler(event, context):
    if event == "well":
        return seen or "well"
    own = context.aws_request_id
"""
NO_SPACE = reports("OSError", r"\[Errno 28\] No space left on device.*")
NO_DESCRIPTOR = reports("OSError", r"\[Errno 24\] Too many open files.*")


def case(title: str, body: str, check: Checked, then: Any = "well", **settings: Any) -> Any:
    """`body` is what the handler does; afterwards, asked again, it answers `then`."""
    code = PRELUDE + "".join(f"    {line}\n" for line in body.split("\n"))
    return pytest.param(code, check, then, {"Timeout": 10, **settings}, id=title)


def broken(title: str, code: str, check: Checked, **settings: Any) -> Any:
    """`code` is all of app.py, and there is no way for it to get better."""
    return pytest.param(code, check, None, {"Timeout": 10, **settings}, id=title)


# fmt: off
FUNCTIONS = [
    broken("handler that does not exist", archives.HANDLER, fails_to_start("Runtime.HandlerNotFound", "Handler 'other' missing on module 'app'"), Handler="app.other"),
    broken("handler whose module does not exist", archives.HANDLER, fails_to_start("Runtime.ImportModuleError", "Unable to import module 'other': No module named 'other'"), Handler="other.handler"),
    broken("handler without a dot", archives.HANDLER, fails_to_start("Runtime.MalformedHandlerName", r"Bad handler 'app': not enough values to unpack \(expected 2, got 1\)"), Handler="app"),
    broken("import error", "import nothing_like_this", fails_to_start("Runtime.ImportModuleError", "Unable to import module 'app': No module named 'nothing_like_this'")),
    broken("syntax error", "def handler(", fails_to_start("Runtime.UserCodeSyntaxError", r"Syntax error in module 'app': .*\(app.py, line 1\)")),
    broken("raises in its init", "raise Exception('Runtime startup fails')", fails_to_start("Exception", "Runtime startup fails")),
    broken("exits in its init", "import os; os._exit(5)", exits("with error: exit status 5")),
    broken("kills itself in its init", "import os; os.kill(os.getpid(), 9)", ends_by("killed")),
    broken("no bootstrap", archives.HANDLER, platform_says("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"), Runtime="provided.al2023"),
    case("handler that raises", "raise ValueError('no good')", reports("ValueError", "no good")),
    case("handler that raises what cannot be shown", "class Bad(Exception):\n    def __str__(self): return 1 / 0\nraise Bad", reports("Bad", ".*unprintable.*")),
    case("returns what JSON cannot carry: a set", "return {1, 2}", reports("Runtime.MarshalError", "Unable to marshal response: Object of type set is not JSON serializable")),
    case("returns what JSON cannot carry: itself", "x = []; x.append(x); return x", reports("Runtime.MarshalError", "Unable to marshal response: Circular reference detected")),
    case("returns too much", "return 'x' * (7 << 20)", too_large),
    case("calls os._exit(0)", "os._exit(0)", exits("without providing a reason")),
    case("calls os._exit(3)", "os._exit(3)", exits("with error: exit status 3")),
    case("calls sys.exit", "sys.exit(0)", exits("without providing a reason")),
    case("calls os.abort", "os.abort()", ends_by("aborted")),
    case("is killed by SIGTERM", "killed_by_another('TERM')", ends_by("terminated")),
    case("is killed by SIGKILL", "killed_by_another('KILL')", ends_by("killed")),
    case("is killed by SIGSEGV", "killed_by_another('SEGV')", ends_by("segmentation fault")),
    case("sends itself SIGTERM", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", ends_by("terminated")),
    case("sends itself SIGKILL", "os.kill(os.getpid(), signal.SIGKILL)", ends_by("killed")),
    case("sends itself SIGSEGV", "os.kill(os.getpid(), signal.SIGSEGV); time.sleep(60)", ends_by("segmentation fault")),
    case("reads what is not there", "ctypes.string_at(0)", ends_by("segmentation fault")),
    case("tries to kill all there is", "subprocess.Popen(['sleep', '600']); os.kill(-1, signal.SIGKILL); os.kill(1, signal.SIGKILL)", reports("PermissionError", r"\[Errno 1\] Operation not permitted")),
    case("eats memory past its limit, little by little", "x = [bytes(1 << 20) for _ in itertools.count()]", ends_by("killed")),
    case("eats memory past its limit, at once", "x = bytearray(1 << 30)", ends_by("killed")),
    case("never returns: asleep", "time.sleep(60)", TIMED_OUT, Timeout=1),
    case("never returns: at work", "while True: pass", TIMED_OUT, Timeout=1),
    case("never returns: ignores signals", "for n in {*signal.valid_signals()} - {9, 19, 32, 33}: signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(60)", TIMED_OUT, Timeout=1),
    case("never returns: stops itself", "os.kill(os.getpid(), signal.SIGSTOP)", TIMED_OUT, Timeout=1),
    case("writes 50 MB to stdout", "for _ in range(50): sys.stdout.write('x' * (1 << 20))\nreturn 'done'", answers("done")),
    case("writes to stdout without end", "while True: os.write(1, bytes(1 << 16))", TIMED_OUT, Timeout=1),
    case("writes what is no text", "os.write(2, bytes(range(256)) * 64)\nreturn 'done'", answers("done")),
    case("forks without end", "try_for_ever(os.fork)", TIMED_OUT, Timeout=1, MemorySize=3008),
    case("forks until its memory is full", "try_for_ever(os.fork)", ends_by("killed")),
    case("starts programs without end", "try_for_ever(lambda: seen.append(subprocess.Popen(['sleep', '600'], start_new_session=True)))", TIMED_OUT, Timeout=1, MemorySize=3008),
    case("starts threads without end", "try_for_ever(threading.Thread(target=time.sleep, args=(600,)).start)", TIMED_OUT, Timeout=1, MemorySize=1024),
    case("leaves processes behind", "for _ in range(20): subprocess.Popen(['sleep', '600'], start_new_session=True)\nreturn 'done'", answers("done")),
    case("opens files without end", "return [open('/dev/null') for _ in itertools.count()]", NO_DESCRIPTOR),
    case("closes every descriptor", "os.closerange(0, 1024)\nreturn 'done'", answers("done")),
    case("closes the Runtime API connection mid-answer", "post(own, b'half', 100).close(); time.sleep(60)", TORN),
    case("closes the Runtime API connection mid-answer, then answers", "post(own, b'half', 100).close(); return 'whole'", answers("whole")),
    case("exits mid-answer", "post(own, b'half', 100); os._exit(4)", exits("with error: exit status 4")),
    case("answers twice", "post(own, b'1')\nseen.append(status(post(own, b'2')))\nreturn 3", answers(1), then=[403]),
    case("answers for another request id", "seen.append(status(post('8476a536-e9f4-11e8-9739-2dfe598c3fcd', b'1'))); return 2", answers(2), then=[400]),
    case("says to the Runtime API what is no HTTP", "c = connect(); c.sendall(b'\\r\\nno\\0HTTP\\r\\n\\r\\n'); return status(c)", answers(400)),
    case("connects to the Runtime API a hundred times", "context.held = [connect() for _ in range(100)]; return 'done'", answers("done")),
    case("fills /tmp", "f = open('/tmp/full', 'wb', 0)\nwhile True: f.write(bytes(1 << 20))", NO_SPACE),
    case("fills /tmp with empty files", "for n in itertools.count(): os.mknod('/tmp/%d' % n)", NO_SPACE),
    case("writes into its own code", "open('/var/task/app.py', 'w')", reports("OSError", r"\[Errno 30\] Read-only file system: '/var/task/app.py'")),
]
# fmt: on


@pytest.mark.parametrize(("code", "check", "then", "settings"), FUNCTIONS)
def test_function(product: Product, healthy: Healthy, code: str, check: Checked, then: Any, settings: dict[str, Any]) -> None:
    name = product.deploy(code, **settings)
    answer = product.invoke(name)
    check(answer)
    assert answer.version == "$LATEST"
    assert f"\nEND RequestId: {answer.request_id}\nREPORT RequestId: {answer.request_id}\t" in answer.log
    healthy()
    if then is None:
        check(product.invoke(name))
    else:
        assert product.invoke(name, "well").value == then


@pytest.mark.parametrize("state", ["ready", "frozen"])
def test_a_runtime_that_is_killed_between_invocations(product: Product, healthy: Healthy, state: str) -> None:
    """There is another one before the next event comes, and the caller learns nothing of it; /tmp stays, as after every reset."""
    name = product.deploy(
        "def handler(event, context):\n    open('/tmp/' + event, 'a').write('x')\n    return open('/tmp/' + event).read()"
    )

    def runtime() -> int:
        found = [pid for pid in product.family.runtimes if Path("/proc", str(pid), "root", "tmp", name).exists()]
        return found[0] if found else 0

    assert product.invoke(name, name).value == "x"
    first = runtime()
    if state == "frozen":
        eventually(lambda: product.sandboxes(name) == {"frozen": 1})
    os.kill(first, signal.SIGKILL)
    eventually(lambda: runtime() not in (0, first))
    answer = product.invoke(name, name)
    assert (answer.function_error, answer.value) == (None, "xx")
    healthy()


def test_an_init_that_never_ends(endless: Future[Answer], product: Product, healthy: Healthy) -> None:
    """Ten seconds for Init, then the function's own timeout for Init within the invocation."""
    answer = endless.result()
    TIMED_OUT(answer)
    assert 10 < answer.took_s < 14
    assert "INIT_REPORT Init Duration: 10" in "".join(product.log(ENDLESS))
    healthy()


# Clients.

SLOW = "import time\ndef handler(event, context):\n    if event: time.sleep(event)\n    return 'x' * (6 << 20)"
STAYS, LEAVES = "stays", "leaves"


def invocation(body: bytes, length: int | None = None, more: str = "") -> bytes:
    head = f"POST /2015-03-31/functions/NAME/invocations HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


def client(title: str, sent: bytes, then: str | tuple[int, str]) -> Any:
    """`then` it stays without a word, it leaves without reading, or it gets this status and error."""
    return pytest.param(sent, then, id=title)


# fmt: off
CLIENTS = [
    client("leaves while its function runs", invocation(b"0.3"), LEAVES),
    client("leaves while its answer is sent", invocation(b"0"), LEAVES),
    client("leaves in the middle of its body", invocation(b'"half', 1000), LEAVES),
    client("leaves in the middle of its headers", b"POST /2015-03-31/functions/NAME/invocations HTTP/1.1\r\nHost: localhost\r\nConte", LEAVES),
    client("sends a 7 MB body", invocation(b'"' + b"x" * (7 << 20) + b'"'), (413, "RequestEntityTooLargeException")),
    client("announces a 7 MB body", invocation(b"", 7 << 20, "Expect: 100-continue\r\n"), (413, "RequestEntityTooLargeException")),
    client("sends a 7 MB body in pieces", b"POST /2015-03-31/functions/NAME/invocations HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"100000\r\n" + b" " * (1 << 20) + b"\r\n") * 7 + b"0\r\n\r\n", (413, "RequestEntityTooLargeException")),
    client("sends half a request: nothing", b"", STAYS),
    client("sends half a request: half a line", b"POST /2015-03-31/func", STAYS),
    client("sends half a request: half its headers", b"POST /2015-03-31/functions/NAME/invocations HTTP/1.1\r\nHost: localhost\r\nConte", STAYS),
    client("sends half a request: half its body", invocation(b'"half', 1000), STAYS),
    client("never reads its answer", invocation(b"0") * 4, STAYS),
    client("sends garbage: noise", b"\x16\x03" + random.Random(1).randbytes(4096) + b"\r\n\r\n", (400, "BadRequestException")),
    client("sends garbage: headers", b"GET / HTTP/1.1\r\nHost: localhost\r\n: :\r\n\r\n", (400, "BadRequestException")),
    client("sends garbage: path", b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, "BadRequestException")),
    client("sends garbage: path that leads elsewhere", b"GET /%zz/../..//../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (404, "UnknownOperationException")),
    client("sends garbage: lengths", b"POST /2015-03-31/functions/NAME/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", (400, "BadRequestException")),
    client("sends garbage: event", invocation(b"{no json", more="Connection: close\r\n"), (400, "InvalidRequestContentException")),
    client("sends garbage: function name", b"POST /2015-03-31/functions/a%20b%00/invocations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", (400, "ValidationException")),
    client("sends garbage: header that is no text", b"POST /2015-03-31/functions/NAME/invocations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Amz-Log-Type: \xff\r\nContent-Length: 0\r\n\r\n", (400, "ValidationException")),
    client("is a web page of another origin", b"POST /2015-03-31/functions/NAME/invocations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n", (403, "AccessDeniedException")),
    client("is a web page that made its name mean this machine", b"GET /2015-03-31/functions HTTP/1.1\r\nHost: evil.example:9000\r\nConnection: close\r\n\r\n", (403, "AccessDeniedException")),
    client("sends garbage: function URL", b"GET / HTTP/1.1\r\nHost: no-such-id.lambda-url.us-east-1.localhost\r\nConnection: close\r\n\r\n", (403, "AccessDeniedException")),
]
# fmt: on


@pytest.mark.parametrize(("sent", "then"), CLIENTS)
def test_client(product: Product, healthy: Healthy, sent: bytes, then: str | tuple[int, str]) -> None:
    name = product.deploy(SLOW, Timeout=5, MemorySize=512)
    whole = sent.startswith(invocation(b"0")[:-1])

    def logged(line: str) -> bool:
        return any(entry.startswith(line) for entry in product.log(name))

    with connected(product.instance.endpoint) as connection:
        connection.sendall(sent.replace(b"NAME", name.encode()))
        if whole:  # who leaves before it runs gives up its place in the queue
            eventually(lambda: logged("START RequestId: "))
        if then == STAYS:
            healthy()
        elif then != LEAVES:
            status, headers, body = received(connection)
            assert (status, headers["x-amzn-errortype"]) == then
            assert set(json.loads(body)) & {"message", "Message"}
    if whole:  # the function runs to its end, whoever listens
        eventually(lambda: logged("REPORT RequestId: "))
    healthy()
    assert len(product.invoke(name, 0).value) == 6 << 20


def test_a_hundred_clients_that_say_nothing(product: Product, healthy: Healthy) -> None:
    connections = [connected(product.instance.endpoint) for _ in range(100)]
    healthy()
    for connection in connections:
        connection.close()
    healthy()


def test_a_6_mb_event_for_a_frozen_sandbox(product: Product, healthy: Healthy) -> None:
    name = product.deploy(
        "import os\ndef handler(event, context):\n    return [os.getpid(), len(event)]", Timeout=10, MemorySize=512
    )
    event = "x" * (SIX_MB - 2)
    warm = product.invoke(name, event)
    eventually(lambda: product.sandboxes(name) == {"frozen": 1})
    thawed = product.invoke(name, event)
    assert (warm.function_error, warm.value[1]) == (None, len(event))
    assert (thawed.function_error, thawed.value) == (None, warm.value)
    assert "Init Duration" not in thawed.log
    with pytest.raises(ClientError, match="Request must be smaller than 6291456 bytes for the InvokeFunction operation"):
        product.invoke(name, event + "x")
    healthy()


def test_a_function_url_hides_what_went_wrong(product: Product, healthy: Healthy) -> None:
    name = product.deploy(PRELUDE + "    os.abort()")
    product.publish_url(name)
    for _ in range(2):
        with connected(product.instance.endpoint) as connection:
            connection.sendall(f"GET {product.url_path(name)} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
            assert received(connection)[::2] == (502, b"Internal Server Error")
    healthy()
