"""`lambent deploy`, and what `demo` and `bench` share with it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.api import FUNCTION_URLS, FUNCTIONS, Api, ApiProblem, endpoint_option, function_path
from gateway.cli.archive import files_of, pack, read_ignore
from gateway.cli.detect import Detected, NothingFound, detect
from gateway.cli.progress import Report, bars

ROLE: Final = "arn:aws:iam::000000000000:role/lambent"
SETTLED_WITHIN_S: Final = 120.0
#: Compressing 10 MB takes 0.4 s, more than all else between a save and its code. Of what can be sent at all this is half.
UNCOMPRESSED_BYTES: Final = 25 * 1024 * 1024
#: What AWS's console adds for a public URL: both statements are needed since October 2025.
PUBLIC: Final = (
    {
        "StatementId": "FunctionURLAllowPublicAccess",
        "Action": "lambda:InvokeFunctionUrl",
        "Principal": "*",
        "FunctionUrlAuthType": "NONE",
    },
    {
        "StatementId": "FunctionURLAllowInvokeAction",
        "Action": "lambda:InvokeFunction",
        "Principal": "*",
        "InvokedViaFunctionUrl": True,
    },
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A function as it shall be; None leaves what is there, or AWS's default for a new one."""

    name: str
    runtime: str | None = None
    handler: str | None = None
    memory_mb: int | None = None
    timeout_s: int | None = None
    environment: Mapping[str, str] | None = None

    def configuration(self) -> dict[str, Any]:
        members = {
            "Runtime": self.runtime,
            "Handler": self.handler,
            "MemorySize": self.memory_mb,
            "Timeout": self.timeout_s,
            "Environment": None if self.environment is None else {"Variables": dict(self.environment)},
        }
        return {name: value for name, value in members.items() if value is not None}


def put(api: Api, wish: Wish, package: bytes, sending: Report | None = None, *, code_only: bool = False) -> bool:
    """Create the function or bring it up to date, and wait until it can be invoked. True when it is new.

    `code_only` leaves the configuration of one that is there as it is.
    """
    code = {"ZipFile": base64.b64encode(package).decode()}
    existing = api.find("GET", function_path(wish.name, "/configuration"))
    if existing is None:
        api.call(
            "POST",
            FUNCTIONS,
            {"FunctionName": wish.name, "Role": ROLE, "Code": code, **wish.configuration()},
            sending=sending,
        )
    else:
        api.call("PUT", function_path(wish.name, "/code"), code, sending=sending)
        if not code_only and (changes := wish.configuration()):
            settle(api, wish.name)
            api.call("PUT", function_path(wish.name, "/configuration"), changes)
    settle(api, wish.name)
    return existing is None


def settle(api: Api, name: str) -> None:
    """Wait until nothing is pending. Raises click.ClickException with AWS's reason when it failed."""
    waits = 0
    while True:
        now = api.call("GET", function_path(name, "/configuration")).json()
        for state, reason in (("State", "StateReason"), ("LastUpdateStatus", "LastUpdateStatusReason")):
            if now.get(state) == "Failed":
                raise click.ClickException(f"{name} cannot be used: {now.get(reason) or 'no reason given'}")
        if now.get("State") == "Active" and now.get("LastUpdateStatus") != "InProgress":
            return
        if waits * 0.02 > SETTLED_WITHIN_S:
            raise click.ClickException(f"{name} is still {now.get('State')} after {SETTLED_WITHIN_S:g} s")
        waits += 1
        time.sleep(0.02)


def publish_url(api: Api, name: str) -> str:
    """The function's URL, which anybody may call, unless somebody gave it another AuthType."""
    path = f"{FUNCTION_URLS}/{name}/url"
    url = api.find("GET", path) or api.call("POST", path, {"AuthType": "NONE"}).json()
    if url["AuthType"] == "NONE":
        for statement in PUBLIC:
            with _already_there():
                api.call("POST", function_path(name, "/policy"), statement)
    return str(url["FunctionUrl"])


@contextlib.contextmanager
def _already_there() -> Iterator[None]:
    try:
        yield
    except ApiProblem as problem:
        if problem.code != "ResourceConflictException":
            raise


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A directory, and what was said of the function that it is to be; None where that is to be found out."""

    directory: Path
    name: str
    runtime: str | None
    handler: str | None
    memory_mb: int | None
    timeout_s: int | None
    environment: Mapping[str, str] | None

    def wish(self, api: Api) -> tuple[Wish, str]:
        """The function, and from what runtime and handler were concluded. Raises click.ClickException."""
        runtime, handler, because = self.runtime, self.handler, ""
        if runtime is None or handler is None:
            found = _detected(self.directory, api)
            runtime, handler, because = runtime or found.runtime, handler or found.handler, found.because
        wish = Wish(
            name=self.name,
            runtime=runtime,
            handler=handler,
            memory_mb=self.memory_mb,
            timeout_s=self.timeout_s,
            environment=self.environment,
        )
        return wish, because

    def package(self, report: Report, *, quickly: bool = False) -> bytes:
        """The files as they are now, zipped; `quickly` without compressing what is small enough. Raises click.ClickException."""
        try:
            files = files_of(self.directory, read_ignore(self.directory))
            total = sum(path.stat().st_size for path, _ in files)
            done = 0

            def one_more(size: int) -> None:
                nonlocal done
                done += size
                report(done, total)

            return pack(files, one_more, compress=not quickly or total > UNCOMPRESSED_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"cannot read {self.directory}: {error}") from error


@click.command(
    "deploy",
    epilog="""\b
Examples:
  lambent deploy hello/
  lambent deploy hello/ --watch
  lambent deploy . --name api --memory 512 --timeout 30 --env STAGE=test
  lambent deploy build/ --runtime python3.12 --handler app.handler --no-url

Files that `.lambentignore` in DIR names (like .gitignore) are left out, and .git, .venv, caches, what editors put there.""",
)
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", help="Name of the function; otherwise that of the directory.")
@click.option("--runtime", help="For instance python3.12 or provided.al2023; otherwise told from the files.")
@click.option("--handler", help="For instance app.handler; otherwise told from the files.")
@click.option("--memory", type=int, metavar="MB", help="Memory limit; if not said, 128 for a new function.")
@click.option("--timeout", type=int, metavar="S", help="Time limit of an invocation; if not said, 3 for a new function.")
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="K=V",
    help="An environment variable; may be repeated. Replaces all earlier ones.",
)
@click.option("--url/--no-url", default=True, show_default=True, help="Give it a public function URL.")
@click.option("--watch", "stay", is_flag=True, help="Stay, and put every save online at once, until Ctrl-C.")
@endpoint_option
def command(
    directory: Path,
    name: str | None,
    runtime: str | None,
    handler: str | None,
    memory: int | None,
    timeout: int | None,
    variables: tuple[str, ...],
    url: bool,
    stay: bool,
    endpoint: str,
) -> None:
    """Put the directory DIR online as a function: create it, or bring it up to date."""
    api = Api(endpoint)
    directory = directory.resolve()
    source = Source(
        directory=directory,
        name=name or _name_for(directory),
        runtime=runtime,
        handler=handler,
        memory_mb=memory,
        timeout_s=timeout,
        environment=dict(_variable(text) for text in variables) if variables else None,
    )
    wish, because = source.wish(api)
    if because:
        click.echo(f"{wish.runtime}, handler {wish.handler} (from {because})", err=True)
    with bars() as step:
        package = source.package(step("packing"), quickly=stay)
        new = put(api, wish, package, step("uploading", "unpacking"))
    click.echo(f"{'created' if new else 'updated'} {wish.name} ({len(package) / 1024:,.1f} KB)", err=True)
    _warn_where_it_cannot_run(api, str(wish.runtime))
    if url:
        click.echo(publish_url(api, wish.name))
    api.close()
    if stay:
        from gateway.cli.watch import Watch

        sys.stdout.flush()
        Watch(source, endpoint, wish, package, url=url).run()


def _detected(directory: Path, api: Api) -> Detected:
    try:
        return detect(directory, python_runtimes(api), node_runtimes(api))
    except NothingFound as error:
        raise click.ClickException(str(error)) from error


def python_runtimes(api: Api) -> list[str]:
    """What the gateway's host can run, the version of this interpreter first, then the newest."""
    mine = f"python3.{sys.version_info.minor}"
    status = api.find("GET", "/_lambent/status") or {}
    there = [name for name, host in status.get("runtimes", {}).items() if name.startswith("python") and host["available"]]
    there.sort(key=lambda name: (name == mine, int(name.rpartition(".")[2])), reverse=True)
    return there or [mine]


def node_runtimes(api: Api) -> list[str]:
    """What the gateway's host can run, newest first."""
    status = api.find("GET", "/_lambent/status") or {}
    there = [name for name, host in status.get("runtimes", {}).items() if name.startswith("nodejs") and host["available"]]
    return sorted(there, key=lambda name: int(name.removeprefix("nodejs").removesuffix(".x")), reverse=True)


def _warn_where_it_cannot_run(api: Api, runtime: str) -> None:
    status = api.find("GET", "/_lambent/status") or {}
    host = status.get("runtimes", {}).get(runtime)
    if host is not None and not host["available"]:
        click.echo(f"lambent: this host cannot run {runtime} yet: {host['detail']}", err=True)


def _name_for(directory: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", directory.name).strip("-")[:64]
    if not name:
        raise click.BadParameter(f"{directory} gives no name; say one", param_hint="--name")
    return name


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not of the form K=V", param_hint="--env")
    return name, value
