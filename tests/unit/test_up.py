"""What `up` prepares before anything starts, and the facts of the host that defaults depend on."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import host, listening, up
from gateway.banner import banner
from gateway.drain import Ending
from gateway.settings import SettingError, Settings, load
from gateway.supervisor import in_a_fork

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")


def settings(**values: str) -> Settings:
    return load(values, {"HOME": "/nowhere"})


def test_owner_follows_the_directory_not_its_spelling(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert up.owner_of(tmp_path / "link") == up.owner_of(tmp_path / "data") == up.owner_of(tmp_path / "x" / ".." / "data")
    assert up.owner_of(tmp_path / "data") != up.owner_of(tmp_path / "other")
    assert len(up.owner_of(tmp_path)) == 12


def test_data_directory_is_made_and_has_one_owner(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    lock = up.take(directory)
    with pytest.raises(up.Refused, match="in use by another"):
        up.take(directory)
    os.close(lock)
    os.close(up.take(directory))


def test_data_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(up.Refused, match="--data-dir"):
        up.take(tmp_path / "file")


@needs_root
def test_data_changes_hands_completely_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    state = tmp_path / "state"
    (state / "code" / "x").mkdir(parents=True)
    (state / "code" / "x" / "link").symlink_to(outside)
    (state / "lambent.db").touch()
    up.give(state, 12345)
    assert {path.lstat().st_uid for path in (state, *state.rglob("*"))} == {12345}
    assert outside.stat().st_uid == 0


@needs_root
def test_user_that_can_read_everything_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(up, "_needed", lambda _: ["/", "/etc/passwd"])
    assert up.choose_user(settings(user="12345")) == (12345, None)
    assert up.choose_user(settings(user="nobody"))[1] is None
    assert up.choose_user(settings(uid_base="777777")) == (777777, None)


@needs_root
def test_user_that_cannot_is_not_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(up, "_needed", lambda _: ["/", str(tmp_path / "python")])
    assert up.choose_user(settings(user="12345")) == (0, f"user 12345 cannot read {tmp_path / 'python'}")
    assert up.choose_user(settings(user="0")) == (0, "as --user says")


def test_user_that_does_not_exist() -> None:
    with pytest.raises(SettingError, match="there is no user 'ghost'"):
        up.choose_user(settings(user="ghost"))


@needs_root
def test_becoming_a_user_happens_in_a_fork_only() -> None:
    assert in_a_fork(lambda: up.barred_from(12345, ["/etc/shadow", "/etc/passwd"]), 5) == ["/etc/shadow"]
    assert os.geteuid() == 0


def test_readiness_is_told_to_systemd(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        up.notify(str(tmp_path / "notify"), "READY=1")
        assert listener.recv(100) == b"READY=1"
    up.notify(None, "READY=1")


def test_nobody_listens_where_systemd_should(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    up.notify(str(tmp_path / "nobody"), "READY=1")
    assert "cannot notify systemd" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("base", "by_host", "url"),
    [
        ("http://127.0.0.1:9000", True, "http://abc.lambda-url.eu-west-1.localhost:9000/"),
        ("http://127.0.0.1:9000", False, "http://127.0.0.1:9000/_urls/abc/"),
        ("http://[::1]:9000", True, "http://abc.lambda-url.eu-west-1.localhost:9000/"),
        ("https://fn.example.com", True, "https://abc.lambda-url.eu-west-1.fn.example.com/"),
        ("https://fn.example.com", False, "https://fn.example.com/_urls/abc/"),
        ("http://192.0.2.7:9000", False, "http://192.0.2.7:9000/_urls/abc/"),
    ],
)
def test_function_urls(base: str, by_host: bool, url: str) -> None:
    assert host.Urls(base=base, by_host=by_host, region="eu-west-1").url("abc") == url


@pytest.mark.parametrize(
    ("values", "knows", "by_host"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"url_style": "path"}, True, False),
        ({"url_style": "host"}, False, True),
        ({"url_base": "https://fn.example.com"}, True, False),
        ({"url_base": "https://fn.example.com", "url_style": "host"}, False, True),
        ({"host": "0.0.0.0", "insecure": "true"}, True, False),
    ],
)
async def test_style_of_urls(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], knows: bool, by_host: bool) -> None:
    monkeypatch.setattr(host, "resolves_localhost", lambda: knows)
    assert (await host.urls(settings(**values), "http://127.0.0.1:9000")).by_host is by_host


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, frozenset()),
        ({"host": "::1", "url_base": "https://Fn.example.com:8443"}, frozenset({"fn.example.com"})),
        ({"host": "0.0.0.0", "insecure": "true", "url_base": "https://fn.example.com"}, None),
    ],
)
def test_names_that_it_is_served_by(values: dict[str, str], names: frozenset[str] | None) -> None:
    assert host.names(settings(**values)) == names


@pytest.mark.parametrize(
    ("address", "shown"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("::1", "http://[::1]:1")],
)
def test_endpoint_is_one_that_can_be_typed(address: str, shown: str) -> None:
    assert host.endpoint(address, 1) == shown


def test_memory_budget() -> None:
    assert host.memory_budget_bytes(settings(memory_budget_mb="100")) == 100 << 20
    available = host.memory_budget_bytes(settings())
    assert 0 < available < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_memory_budget_in_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   1000000 kB\n", "/sys/fs/cgroup/memory.max": "104857600\n",
             "/sys/fs/cgroup/memory.current": "4857600\n"}  # fmt: skip

    def read_text(path: Path, *_: object) -> str:
        try:
            return files[str(path)]
        except KeyError:
            raise FileNotFoundError(str(path)) from None

    monkeypatch.setattr(Path, "read_text", read_text)
    assert host.memory_budget_bytes(settings()) == 80_000_000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert host.memory_budget_bytes(settings()) == 819_200_000
    files.clear()
    assert host.memory_budget_bytes(settings()) > 0


def test_listener_is_bound_but_not_open_to_clients_yet() -> None:
    with (
        listening.listener("127.0.0.1", 0) as listener,
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(listener.getsockname(), timeout=1),
    ):
        pass


def shown(**changes: object) -> str:
    usual: dict[str, object] = {
        "version": "1.2.3", "endpoint": "http://127.0.0.1:9000", "usual": True, "region": "eu-west-1", "driver": "native",
        "isolation": "namespaces", "isolated": True, "runs_as": "user lambent", "data_dir": "/var/lib/lambent",
        "to": io.StringIO(),
    }  # fmt: skip
    make: Callable[..., str] = banner
    return make(**{**usual, **changes})


def test_banner() -> None:
    text = shown()
    for wanted in ("Lambent 1.2.3", "http://127.0.0.1:9000", "native", "namespaces", "runs as user lambent", "/var/lib/lambent"):
        assert wanted in text
    assert "NO ISOLATION" not in text
    assert "\033" not in text


def test_banner_shows_commands_that_work_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    text = shown(endpoint="http://127.0.0.1:9700", usual=False)
    assert "    export LAMBENT_ENDPOINT=http://127.0.0.1:9700\n" in text
    assert f"    {Path(sys.executable).parent / 'lambent'} list\n" in text
    assert "--region eu-west-1 --endpoint-url http://127.0.0.1:9700\n" in text
    assert "export" not in shown()


def test_banner_without_isolation_is_loud() -> None:
    assert "NO ISOLATION" in shown(isolated=False, runs_as=None)


async def finish_at(event: asyncio.Event) -> None:
    await event.wait()


async def test_first_signal_begins_the_end_and_the_second_hurries_it() -> None:
    ending = Ending()
    os.kill(os.getpid(), signal.SIGTERM)
    await ending.begun
    assert not ending.hurried.done()
    never = asyncio.Event()
    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
    assert await ending.patiently(finish_at(never)) is False
    assert ending.hurried.done()
    ending.hear()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


async def test_what_finishes_in_time_is_waited_for() -> None:
    ending = Ending()
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await ending.patiently(finish_at(event)) is True
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


def test_a_port_that_is_in_use_leaves_no_data_directory_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        monkeypatch.setenv("LAMBENT_PORT", str(number))
        monkeypatch.setenv("LAMBENT_DATA_DIR", str(tmp_path / "not" / "there"))
        monkeypatch.setattr(up, "_supervise", lambda *_, **__: 0)
        assert up.main([]) == 1
    assert f"port {number} of 127.0.0.1 is in use by another program" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert up.main([]) == 0
    assert (tmp_path / "not" / "there").is_dir()
