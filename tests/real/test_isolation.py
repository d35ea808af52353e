"""From inside a real sandbox: what a function can't see, can't do, and can't keep from being cleaned up after it.

Each case is a handler that tries, and an assertion about what it was told. They share one spawner, each has its own sandbox.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.errors import SandboxError
from sandbox.native.cgroups import Cgroups
from sandbox.outcome import Status
from sandbox.testing import PlainLog
from tests.real.product import eventually
from tests.real.spawned import PYTHON, SPARES, Spawned, call, spawned

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]


@pytest.fixture
async def host(tmp_path: Path, owner: str) -> AsyncIterator[Spawned]:
    async with spawned(tmp_path, owner) as spawner:
        yield spawner


async def inside(host: Spawned, code: str, payload: Any = None, **settings: object) -> Any:
    """Run `code` (which has a handler) in a sandbox of its own; its answer."""
    spec = host.spec(code, **settings)
    sandbox = await host.open(spec)
    lines: list[bytes] = []
    try:
        await sandbox.init(spec, PlainLog(lines.append))
        outcome = await call(sandbox, json.dumps(payload).encode())
        assert outcome.status is Status.SUCCESS, (outcome, b"".join(lines))
        return json.loads(outcome.payload)
    finally:
        await sandbox.stop()


TRY = """
import errno, os
def attempt(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""


async def test_it_sees_only_its_own_processes(host: Spawned) -> None:
    code = (
        "import os\n"
        "def handler(event, context):\n"
        " return [sorted(int(p) for p in os.listdir('/proc') if p.isdigit()), os.getpid()]\n"
    )
    pids, own = await inside(host, code)
    assert pids == [1, own]


async def test_the_hosts_files_are_not_there(host: Spawned, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    code = "import os\ndef handler(paths, context):\n return [[p for p in paths if os.path.exists(p)], sorted(os.listdir('/'))]\n"
    found, top = await inside(
        host, code, [str(secret), str(tmp_path), "/root", "/sys", "/boot", "/etc/shadow", "/dev/loop0", "/dev/kmsg"]
    )
    assert found == []
    assert set(top) <= {
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "opt",
        "proc",
        "run",
        "sbin",
        "tmp",
        "usr",
        "var",
    }


async def test_home_and_run_are_empty_and_devices_few(host: Spawned) -> None:
    code = (
        "import os\ndef handler(event, context):\n return [os.listdir('/home'), os.listdir('/run'), sorted(os.listdir('/dev'))]\n"
    )
    home, run, devices = await inside(host, code)
    assert (home, run) == ([], [])
    assert devices == sorted(["fd", "full", "null", "random", "stderr", "stdin", "stdout", "urandom", "zero"])


@pytest.mark.parametrize(
    "path", ["/var/task/x", "/opt/x", "/etc/x", "/usr/x", "/x", "/var/runtime/x", "/dev/x", "/proc/sys/kernel/hostname"]
)
async def test_only_tmp_can_be_written(host: Spawned, path: str) -> None:
    code = TRY + "def handler(path, context):\n return [attempt(lambda: open(path, 'w')), attempt(lambda: open('/tmp/x', 'w'))]\n"
    refused, tmp = await inside(host, code, path)
    assert refused in ("EROFS", "EACCES", "EPERM")
    assert tmp == "done"


async def test_it_is_an_unprivileged_user_named_as_on_aws(host: Spawned) -> None:
    code = (
        "import os, pwd\n"
        "def handler(event, context):\n"
        " status = dict(l.split(':\\t', 1) for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n"
        " return [os.getuid(), os.getgroups(), pwd.getpwuid(os.getuid()).pw_name, len(pwd.getpwall()),"
        "  {k: status[k] for k in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp')}]\n"
    )
    uid, groups, name, users, status = await inside(host, code)
    assert uid >= 1_900_000_000
    assert groups == []
    assert (name, users) == ("sbx_user1051", 3)
    none = "0" * 16
    assert status == dict.fromkeys(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"], none) | {"NoNewPrivs": "1", "Seccomp": "2"}


async def test_it_shares_no_session_with_anybody(host: Spawned) -> None:
    """Signals to a process group, and SIGCONT within a session, would reach across pid namespaces."""
    code = "import os\ndef handler(event, context):\n return [os.getsid(0), os.getpgrp(), os.getpid()]\n"
    session, group, own = await inside(host, code)
    assert session == group == own


async def test_init_is_out_of_reach(host: Spawned) -> None:
    code = TRY + (
        "def handler(event, context):\n"
        " return [attempt(lambda: os.kill(1, 9)), attempt(lambda: os.kill(1, 19)),"
        "  attempt(lambda: open('/proc/1/environ').read()),"
        "  attempt(lambda: open('/proc/1/mem', 'rb')), attempt(lambda: os.listdir('/proc/1/fd')),"
        "  attempt(lambda: os.listdir('/proc/1/root')),"
        "  attempt(lambda: open('/proc/1/oom_score_adj', 'w'))]\n"
    )
    assert set(await inside(host, code)) <= {"EPERM", "EACCES"}


FORBIDDEN = {
    "mount": "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
    "umount": "libc.umount2(b'/tmp', 2)",
    "unshare user namespace": "libc.unshare(0x10000000)",
    "clone into a user namespace": "libc.syscall(56 if os.uname().machine == 'x86_64' else 220, 0x10000000 | 17, 0, 0, 0, 0)",
    "setns": "libc.setns(0, 0)",
    "chroot": "libc.chroot(b'/tmp')",
    "pivot_root": "libc.pivot_root(b'/tmp', b'/tmp')",
    "keyctl": "libc.syscall(250 if os.uname().machine == 'x86_64' else 219, 0, 0)",
    "bpf": "libc.syscall(321 if os.uname().machine == 'x86_64' else 280, 0, 0, 0)",
    "perf_event_open": "libc.syscall(298 if os.uname().machine == 'x86_64' else 241, 0, 0, 0, 0, 0)",
    "userfaultfd": "libc.syscall(323 if os.uname().machine == 'x86_64' else 282, 0)",
    "io_uring": "libc.syscall(425, 1, 0)",
    "sethostname": "libc.sethostname(b'x', 1)",
    "init_module": "libc.syscall(175 if os.uname().machine == 'x86_64' else 105, 0, 0, 0)",
    "reboot": "libc.syscall(169 if os.uname().machine == 'x86_64' else 142, 0, 0, 0, 0)",
    "setuid root": "libc.setuid(0)",
    "raise a limit": "libc.setrlimit(7, struct.pack('QQ', 4096, 4096))",
    "open_tree": "libc.syscall(428, -100, b'/', 1)",
    "vsock": "libc.socket(40, 1, 0)",
}


async def test_forbidden_system_calls(host: Spawned) -> None:
    body = ",\n".join(f"  {name!r}: run(lambda: {expression})" for name, expression in FORBIDDEN.items())
    code = (
        "import ctypes, errno, os, struct\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "def run(action):\n if action() >= 0:\n  return 'done'\n return errno.errorcode[ctypes.get_errno()]\n"
        f"def handler(event, context):\n return {{\n{body} }}\n"
    )
    answers = await inside(host, code)
    assert {name: answer for name, answer in answers.items() if answer != "EPERM"} == {}


async def test_threads_processes_and_sockets_work(host: Spawned) -> None:
    """The filter must not break what ordinary functions do (clone3 is answered ENOSYS, so the C library uses clone)."""
    code = (
        "import subprocess, threading, socket, concurrent.futures, os\n"
        "def handler(event, context):\n"
        " with concurrent.futures.ThreadPoolExecutor(4) as pool:\n  squares = list(pool.map(lambda x: x * x, range(4)))\n"
        " here, there = socket.socketpair()\n here.send(b'x')\n"
        " server = socket.create_server(('127.0.0.1', 0))\n client = socket.create_connection(server.getsockname())\n"
        " echo = subprocess.check_output(['/bin/echo', 'hi'], text=True)\n"
        " return [squares, echo, there.recv(1).decode(), os.popen('id -un').read()]\n"
    )
    assert await inside(host, code) == [[0, 1, 4, 9], "hi\n", "x", "sbx_user1051\n"]


async def test_network_none_reaches_nothing(host: Spawned) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            "import errno, os, socket\n"
            "def handler(addresses, context):\n"
            " def reach(a):\n"
            "  try:\n"
            "   socket.create_connection(tuple(a), 1).close()\n"
            "  except OSError as e:\n"
            "   return errno.errorcode.get(e.errno, str(e))\n"
            "  return 'reached'\n"
            " return [[reach(a) for a in addresses], [n for _, n in socket.if_nameindex()]]\n"
        )
        addresses = [["127.0.0.1", port], ["169.254.169.254", 80], ["192.0.2.1", 80]]
        answers, interfaces = await inside(host, code, addresses)
    assert answers == ["ECONNREFUSED", "ENETUNREACH", "ENETUNREACH"]
    assert interfaces == ["lo"]


async def test_a_neighbours_runtime_api_and_tmp_are_its_own(host: Spawned) -> None:
    code = (
        "import os, socket\n"
        "def handler(event, context):\n"
        " if event == 'write':\n"
        "  open('/tmp/mine', 'w').write('x')\n"
        "  s = socket.socket(socket.AF_UNIX); s.bind('\\0abstract'); s.listen(); globals()['s'] = s\n"
        " else:\n  try:\n   socket.socket(socket.AF_UNIX).connect('\\0abstract'); return 'reached'\n  except OSError: pass\n"
        " return os.listdir('/tmp')\n"
    )
    spec = host.spec(code)
    first, second = await asyncio.gather(host.open(spec), host.open(spec))
    try:
        await first.init(spec, PlainLog())
        await second.init(spec, PlainLog())
        assert json.loads((await call(first, b'"write"')).payload) == ["mine"]
        assert json.loads((await call(second, b'"read"')).payload) == []
    finally:
        await first.stop()
        await second.stop()


async def test_tmp_is_full_at_its_size_and_is_not_memory(host: Spawned) -> None:
    code = (
        "import errno, os\n"
        "def handler(event, context):\n"
        " block = b'x' * (1 << 20)\n written = 0\n"
        " try:\n  with open('/tmp/big', 'wb', 0) as f:\n   while True:\n    written += f.write(block)\n"
        " except OSError as e:\n  return [errno.errorcode[e.errno], written >> 20]\n"
    )
    why, written_mb = await inside(host, code, memory_mb=128, tmp_mb=600, timeout_s=50)
    assert why == "ENOSPC"
    assert 540 <= written_mb <= 600


async def test_limits_are_lambdas(host: Spawned) -> None:
    code = (
        "import resource as r\n"
        "def handler(event, context):\n"
        " return [r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_NPROC), r.getrlimit(r.RLIMIT_CORE),"
        "  r.getrlimit(r.RLIMIT_MEMLOCK), r.getrlimit(r.RLIMIT_STACK)]\n"
    )
    megabyte = 1 << 20
    assert await inside(host, code) == [[1024, 1024], [742, 742], [0, 0], [65536, 65536], [8 * megabyte, -1]]


async def test_packages_of_the_hosts_interpreter_are_not_importable(host: Spawned) -> None:
    code = (
        "import importlib.util as u, sys\n"
        "def handler(event, context):\n"
        " return [[n for n in ('pip', 'setuptools', 'uvloop') if u.find_spec(n)], sys.prefix]\n"
    )
    assert await inside(host, code) == [[], "/var/lang"]


async def test_a_frozen_sandbox_does_not_run(host: Spawned) -> None:
    code = (
        "import threading, time\nticks = [0]\n"
        "def tick():\n while True:\n  ticks[0] += 1\n  time.sleep(0.001)\n"
        "threading.Thread(target=tick, daemon=True).start()\n"
        "def handler(event, context):\n return ticks[0]\n"
    )
    spec = host.spec(code)
    sandbox = await host.open(spec)
    try:
        await sandbox.init(spec, PlainLog())
        before = json.loads((await call(sandbox)).payload)
        sandbox.freeze()
        await asyncio.sleep(0.4)
        frozen = json.loads((await call(sandbox)).payload)
        await asyncio.sleep(0.4)
        running = json.loads((await call(sandbox)).payload)
    finally:
        await sandbox.stop()
    assert frozen - before < 100
    assert running - frozen > 100


async def test_what_a_function_starts_ends_with_its_sandbox(host: Spawned) -> None:
    """A daemon that left its session, ignores SIGTERM and forks is gone when `stop` returns; so are cgroups and uid."""
    code = (
        "import os, signal, time\n"
        "def handler(event, context):\n"
        " if os.fork() == 0:\n  os.setsid()\n  signal.signal(signal.SIGTERM, signal.SIG_IGN)\n  os.fork()\n  time.sleep(3600)\n"
        " return os.getuid()\n"
    )
    uid = await inside(host, code)
    owned = [pid for pid in os.listdir("/proc") if pid.isdigit() and _uid(pid) == uid]
    assert owned == []
    bases = Cgroups(host.owner).bases

    def kept() -> list[Path]:
        return [path for base in bases for path in (base / "sandboxes").iterdir() if path.is_dir()]

    await asyncio.to_thread(eventually, lambda: len(kept()) == SPARES * len(bases))
    assert all((path / "cgroup.procs").read_text() == "" for path in kept())


def _uid(pid: str) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return None


async def test_stdout_can_be_opened_again(host: Spawned) -> None:
    """Programs write to /dev/stdout and /proc/self/fd/1; the pipe belongs to the sandbox's user."""
    code = (
        "import os\n"
        "def handler(event, context):\n"
        " open('/dev/stdout', 'w').write('reopened\\n"
        "')\n"
        " return os.system('echo again > /dev/stderr')\n"
    )
    spec = host.spec(code)
    sandbox = await host.open(spec)
    written: list[bytes] = []
    try:
        await sandbox.init(spec, PlainLog(written.append))
        assert json.loads((await call(sandbox)).payload) == 0
    finally:
        await sandbox.stop()
    assert b"reopened\nagain\n" in b"".join(written)


@pytest.mark.parametrize(
    ("files", "environment", "expected"),
    [
        ({"calendar.py": "MINE = True\n"}, {}, [1, True]),
        ({}, {"PYTHONHASHSEED": "0"}, [0, False]),
        ({}, {"PLAIN": "x"}, [1, False]),
        (
            {"bin/bootstrap": '#!/bin/sh\nexport PYTHONHASHSEED=0\nexec "$@"\n'},
            {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/bin/bootstrap"},
            [0, False],
        ),
    ],
)
async def test_what_was_read_or_imported_ahead_can_be_overridden(
    host: Spawned, files: dict[str, str], environment: dict[str, str], expected: list[object]
) -> None:
    """The zygote has read its environment and imported `calendar` long ago; such a function gets a fresh interpreter."""
    code = (
        "import calendar, sys\ndef handler(event, context):\n return [sys.flags.hash_randomization, hasattr(calendar, 'MINE')]\n"
    )
    spec = host.spec({"app.py": code, **files}, environment=environment)
    sandbox = await host.open(spec)
    try:
        await sandbox.init(spec, PlainLog())
        assert json.loads((await call(sandbox)).payload) == expected
    finally:
        await sandbox.stop()


async def test_provided_runs_the_packages_bootstrap(host: Spawned) -> None:
    bootstrap = (
        "#!/bin/sh\n"
        "# the loop of AWS's tutorial, in sh and a python one-liner for HTTP\n"
        "exec python3 - <<'END'\n"
        "import os, urllib.request as u\n"
        "api = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'\n"
        "while True:\n"
        " with u.urlopen(api + 'next') as event:\n"
        "  body, request_id = event.read(), event.headers['Lambda-Runtime-Aws-Request-Id']\n"
        " u.urlopen(api + request_id + '/response', b'\"bootstrap saw ' + str(len(body)).encode() + b' bytes\"').close()\n"
        "END\n"
    )
    spec = host.spec({"bootstrap": bootstrap}, runtime="provided.al2023", handler="any")
    sandbox = await host.open(spec)
    try:
        await sandbox.init(spec, PlainLog())
        assert (await call(sandbox, b"12345")).payload == b'"bootstrap saw 5 bytes"'
    finally:
        await sandbox.stop()


async def test_every_python_found_runs(host: Spawned) -> None:
    code = "import sys\ndef handler(event, context):\n return list(sys.version_info[:2])\n"
    ran = []
    for minor in range(8, 15):
        spec = host.spec(code, runtime=f"python3.{minor}")
        support = host.driver.support(spec.stem)
        if not support.available:
            print(support.detail)
            continue
        sandbox = await host.open(spec)
        try:
            await sandbox.init(spec, PlainLog())
            assert json.loads((await call(sandbox)).payload) == [3, minor]
        finally:
            await sandbox.stop()
        ran.append(spec.runtime)
    assert PYTHON in ran


async def test_the_code_store_has_no_way_out(host: Spawned, tmp_path: Path) -> None:
    """The spawner mounts nothing but a directory of the code store, whatever a gateway that was taken over asks for."""
    (host.code_dir / "link").symlink_to("/etc")
    for path in ("link", "../volumes", "..", "", "f1/../../volumes"):
        spec = host.spec("def handler(event, context): pass\n", code_path=f"{host.code_dir}/{path}")
        sandbox = await host.open(spec)
        try:
            with pytest.raises(SandboxError):
                await sandbox.init(spec, PlainLog())
        finally:
            await sandbox.stop()
