"""What `deploy --watch` does about a save: what it sends, what it tells, when it tries again. The real thing is in tests/real."""

from __future__ import annotations

import base64
import io
import shutil
import zipfile
from pathlib import Path

import click
import pytest

from gateway.cli import watch
from gateway.cli.deploy import Source, Wish
from gateway.cli.watch import Watch
from tests.unit.stub import Stub

F = "/2015-03-31/functions"
U = "/2021-10-31/functions"
ACTIVE = {"State": "Active", "LastUpdateStatus": "Successful"}
WISH = Wish(name="f", runtime="python3.12", handler="app.handler")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return 1\n")
    return Source(
        directory=tmp_path,
        name="f",
        runtime="python3.12",
        handler="app.handler",
        memory_mb=None,
        timeout_s=None,
        environment=None,
    )


@pytest.fixture
def watching(stub: Stub, source: Source) -> Watch:
    """What is in the directory is online."""
    stub.on(f"GET {F}/f/configuration", ACTIVE)
    stub.on(f"PUT {F}/f/code")
    stub.on(f"PUT {F}/f/configuration")
    return Watch(source, stub.endpoint, WISH, source.package(lambda done, total: None, quickly=True), url=True)


def save(source: Source, name: str = "app.py", text: str = "def handler(event, context):\n    return 2\n") -> list[Path]:
    (source.directory / name).write_text(text)
    return [source.directory / name]


def test_a_save_sends_the_code_and_nothing_else(
    stub: Stub, watching: Watch, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    watching.look(save(source))
    assert [asked for asked in stub.asked if not asked.startswith("GET ")] == [f"PUT {F}/f/code"]
    package = zipfile.ZipFile(io.BytesIO(base64.b64decode(stub.body(f"PUT {F}/f/code")["ZipFile"])))
    assert b"return 2" in package.read("app.py")
    told = capsys.readouterr().err.split()
    assert told[1:4] == ["app.py:", "live", told[3]]
    assert 0 <= int(told[3]) < 20_000


def test_what_changes_nothing_is_not_sent(
    stub: Stub, watching: Watch, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    watching.look(save(source, text="def handler(event, context):\n    return 1\n"))
    watching.look([])
    assert (stub.asked, capsys.readouterr().err) == ([], "")


def test_a_mistake_is_told_once_and_not_sent(
    stub: Stub, source: Source, watching: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.on("GET /_lambent/status", {"runtimes": {"python3.12": {"available": True, "detail": ""}}})
    watching._source = Source(
        directory=source.directory, name="f", runtime=None, handler=None, memory_mb=None, timeout_s=None, environment=None
    )
    watching.look(save(source, text="def handler(event, context:\n"))
    watching.look([])
    told = capsys.readouterr().err
    assert (told.count("cannot be parsed"), told.count("the code from before still runs")) == (1, 1)
    assert not any(asked.startswith("PUT") for asked in stub.asked)
    watching.look(save(source, text="def handler(event, context):\n    return 1\n"))
    assert "what is online is up to date" in capsys.readouterr().err


def test_a_directory_that_is_gone_is_told(
    stub: Stub, source: Source, watching: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.on("GET /_lambent/status", {"runtimes": {"python3.12": {"available": True, "detail": ""}}})
    watching._source = Source(
        directory=source.directory, name="f", runtime=None, handler=None, memory_mb=None, timeout_s=None, environment=None
    )
    shutil.rmtree(source.directory)
    watching.look([])
    assert f"lambent: {source.directory} is not there any more; the code from before still runs\n" in capsys.readouterr().err


def test_what_is_refused_is_told_and_the_next_save_is_sent(
    stub: Stub, watching: Watch, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.answers[f"PUT {F}/f/code"] = []
    stub.on(f"PUT {F}/f/code", {"message": "too large"}, 413, **{"x-amzn-ErrorType": "RequestEntityTooLargeException"})
    stub.on(f"PUT {F}/f/code")
    watching.look(save(source))
    assert "too large (RequestEntityTooLargeException); the code from before still runs" in capsys.readouterr().err
    assert not watching.pending
    watching.look(save(source, text="def handler(event, context):\n    return 3\n"))
    assert "live" in capsys.readouterr().err


def test_a_gateway_that_is_down_gets_it_when_it_is_up_again(
    stub: Stub, watching: Watch, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    watching._endpoint = "http://127.0.0.1:9"
    for changed in (save(source), [], []):
        watching.look(changed)
        assert watching.pending
    told = capsys.readouterr().err
    assert told.count("nothing answers") == 1
    assert told.endswith("give its address with --endpoint; it is tried again until then\n")
    watching._endpoint = stub.endpoint
    watching.look([])
    assert "live" in capsys.readouterr().err
    assert not watching.pending


def test_a_file_that_vanishes_while_it_is_packed(
    watching: Watch, source: Source, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read_bytes = Path.read_bytes

    def gone(path: Path) -> bytes:
        path.unlink()
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", gone)
    watching.look(save(source, "other.py"))
    assert watching.pending, "it is looked at again"
    assert capsys.readouterr().err == "", "it was seen in passing"
    watching.look(save(source, "other.py"))
    assert "cannot read" in capsys.readouterr().err, "it stays so"


def test_a_function_that_somebody_removed_is_made_again(
    stub: Stub, watching: Watch, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.answers[f"GET {F}/f/configuration"] = []
    stub.on(f"GET {F}/f/configuration", {"Message": "no"}, 404, **{"x-amzn-ErrorType": "ResourceNotFoundException"})
    stub.on(f"GET {F}/f/configuration", ACTIVE)
    stub.on(f"POST {F}", {}, 201)
    stub.on(f"POST {U}/f/url", {"FunctionUrl": "http://there/", "AuthType": "NONE"}, 201)
    stub.on(f"POST {F}/f/policy", {}, 201)
    watching.look(save(source))
    assert stub.body(f"POST {F}")["Handler"] == "app.handler"
    assert capsys.readouterr().out == "http://there/\n"


def test_a_handler_that_is_gone_while_it_is_looked_for(
    stub: Stub, source: Source, watching: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    watching._source = Source(
        directory=source.directory, name="f", runtime=None, handler=None, memory_mb=None, timeout_s=None, environment=None
    )
    handler = source.directory / "app.py"
    handler.unlink()
    handler.symlink_to("elsewhere.py")
    watching.look([handler])
    assert (watching.pending, capsys.readouterr().err) == (True, ""), "it was seen in passing"
    watching.look([])
    assert f"cannot read {handler}: No such file or directory" in capsys.readouterr().err, "it stays so"


def test_a_pattern_that_is_none_is_told_and_watching_goes_on(
    source: Source, watching: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    ignore = save(source, ".lambentignore", text="[b-a]\n")
    assert watch._that_matter(source.directory, ignore) == ignore
    watching.look(ignore)
    assert "line 1: '[b-a]' is no pattern" in capsys.readouterr().err
    assert not watching.pending


@pytest.mark.parametrize(
    ("name", "matters"),
    [
        ("app.py", True), ("deep/er/app.py", True), (".lambentignore", True), ("notes.md", False), ("build/x.py", False),
        (".git/index.lock", False), ("__pycache__/app.cpython-312.pyc", False), (".app.py.swp", False), ("app.py~", False),
        (".#app.py", False), ("#app.py#", False), ("app.py___jb_tmp___", False), (".goutputstream-X7", False), ("4913", True),
    ],
)  # fmt: skip
def test_what_is_not_in_the_package_wakes_nobody(tmp_path: Path, name: str, matters: bool) -> None:
    (tmp_path / ".lambentignore").write_text("*.md\nbuild/\n")
    assert bool(watch._that_matter(tmp_path, [tmp_path / name])) is matters


def test_a_host_that_lets_nobody_watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("watchfiles.main.RustNotify", refused)
    with pytest.raises(click.ClickException, match=r"fs\.inotify\.max_user_watches"):
        next(watch.changes(tmp_path))
