"""Fixtures for every test, and what is checked after each: no task, no descriptor, no complaint of the loop, no leftover."""

from __future__ import annotations

import asyncio
import functools
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from gateway.cli.bench.instance import Instance
from gateway.up import owner_of
from sandbox.native import probe
from tests import leftovers
from tests.engine import DockerEngine, why_no_engine

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

hypothesis.settings.register_profile("lambent", deadline=None, print_blob=True)
hypothesis.settings.load_profile("lambent")

REQUIRED = os.environ.get("LAMBENT_REQUIRE", "").split(",")
LABELS = pytest.StashKey[set[str]]()
DIRECTORIES = pytest.StashKey[set[Path]]()
LOOP = pytest.StashKey[asyncio.AbstractEventLoop]()
CENSUS = pytest.StashKey[leftovers.Census]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LABELS] = set()
    config.stash[DIRECTORIES] = set()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[CENSUS] = leftovers.Census.take()
    # pytest-asyncio asks for the thread's loop around each test, which makes one in the first; here it is nobody's leak.
    session.config.stash[LOOP] = asyncio.new_event_loop()
    asyncio.set_event_loop(session.config.stash[LOOP])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The proof that a whole run leaves nothing; it fails the run. In CI, where nobody else is, it looks at the whole host."""
    stash = session.config.stash
    asyncio.set_event_loop(None)
    stash[LOOP].close()
    labels: set[str] = stash[LABELS]
    directories: set[Path] = stash[DIRECTORIES]
    found = leftovers.labelled(labels, directories)
    if os.environ.get("CI"):
        found += leftovers.Census.take().more_than(stash[CENSUS])
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if reporter is not None and (found or labels):
        reporter.ensure_newline()
        for thing in found:
            reporter.write_line(f"LEFT BEHIND: {thing}", red=True)
        if not found:
            reporter.write_line(f"nothing left behind by {len(labels)} instances", green=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("real") is not None and (reason := why_no_sandboxes()) is not None:
        pytest.skip(reason)
    if item.get_closest_marker("docker") is not None and (reason := why_no_engine()) is not None:
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Where real sandboxes, or containers, are required, such a test that is skipped has failed."""
    report = yield
    for marker, required in (("real", "native"), ("docker", "docker")):
        if required in REQUIRED and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker(marker):
            report.outcome = "failed"
            report.longrepr = f"skipped although LAMBENT_REQUIRE has {required}: {call.excinfo.value if call.excinfo else ''}"
    return report


@functools.cache
def why_no_sandboxes() -> str | None:
    """Why this host cannot have real sandboxes, or None where it can."""
    lacking = [fact for fact in probe.host() if fact.level is probe.Level.MISSING and not fact.name.startswith("runtime ")]
    return "; ".join(map(str, lacking)) or None


@pytest.fixture(autouse=True)
def _descriptors(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a descriptor open. Not for those that use a gateway of the whole session, which may start meanwhile."""
    if {"lambent_up", "lambda_client", "containers"} & set(request.fixturenames):
        yield
        return
    before = _open()
    yield
    more = {fd: what for fd, what in _open().items() if before.get(fd) != what}
    assert not more, f"descriptors left open: {more}"


def _open() -> dict[int, str]:
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that reads the directory
            continue
    return found


@pytest.fixture(autouse=True)
def _watched(request: pytest.FixtureRequest) -> None:
    """Tests that are coroutines get `_quiet_loop`."""
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("_quiet_loop")


@pytest.fixture
async def _quiet_loop() -> AsyncIterator[None]:
    """The loop's exception handler was not called, and no task outlives the test."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    before = asyncio.all_tasks(loop)
    yield
    left = [task for task in asyncio.all_tasks(loop) - before if task is not asyncio.current_task() and not task.done()]
    loop.set_exception_handler(None)
    assert not complaints, f"the event loop complained: {complaints}"
    assert not left, f"tasks left running: {left}"


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> Iterator[str]:
    """A label for a test's own sandboxes; when the test is over nothing that bears it may be left."""
    label = f"t{uuid.uuid4().hex[:11]}"
    request.config.stash[LABELS].add(label)
    yield label
    found = leftovers.labelled([label], [])
    assert not found, f"left behind: {found}"


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """An engine for the whole session, with the image in which zip functions of Python run."""
    engine = DockerEngine()
    try:
        engine.start()
        engine.build("python3.11")
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def lambent_up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A Lambent with real sandboxes for the whole session, started as a user starts it, ended as an operator ends it."""
    if (reason := why_no_sandboxes()) is not None:
        pytest.skip(reason)
    data_dir = tmp_path_factory.mktemp("lambent")
    request.config.stash[LABELS].add(owner_of(data_dir))
    request.config.stash[DIRECTORIES].add(data_dir)
    with Instance(data_dir, {"drain_s": 5}) as instance:
        yield instance
        assert instance.process.poll() is None, f"it ended by itself:\n{instance.log.read_text(errors='replace')}"
        code = instance.close()
    assert code == 0, "a drained Lambent ends with exit code 0"


@pytest.fixture(scope="session")
def lambda_client(lambent_up: Instance) -> Iterator[LambdaClient]:
    """boto3's own client, with nothing special but the endpoint."""
    client = client_for(lambent_up.endpoint)
    yield client
    client.close()


def client_for(endpoint: str) -> LambdaClient:
    """A boto3 client that asks once, so that a test sees every error."""
    import boto3
    from botocore.config import Config

    client: LambdaClient = boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
    )
    return client
