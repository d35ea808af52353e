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

from gateway.cli.api import ADVICE, FUNCTION_URLS, FUNCTIONS, Api, ApiProblem, endpoint_option, function_path
from gateway.cli.archive import Unfit, files_of, pack, read_ignore
from gateway.cli.detect import Detected, NothingFound, detect, oversight
from gateway.cli.progress import Report, bars, following, waiting

ROLE: Final = "arn:aws:iam::000000000000:role/lambent"
SETTLED_WITHIN_S: Final = 120.0
IMAGE_SETTLED_WITHIN_S: Final = 3600.0  #: it may come from a registry
SCHEMES: Final = ("oci", "oci-archive", "docker-archive")  #: of images that are files
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
    architecture: str | None = None
    command: tuple[str, ...] | None = None  #: of an image, in place of its own

    def configuration(self) -> dict[str, Any]:
        members = {
            "ImageConfig": None if self.command is None else {"Command": list(self.command)},
            "Runtime": self.runtime,
            "Handler": self.handler,
            "MemorySize": self.memory_mb,
            "Timeout": self.timeout_s,
            "Environment": None if self.environment is None else {"Variables": dict(self.environment)},
        }
        return {name: value for name, value in members.items() if value is not None}


def put(api: Api, wish: Wish, package: bytes | str, sending: Report | None = None, *, code_only: bool = False) -> bool:
    """Create the function or bring it up to date, and wait until it can be invoked. True when it is new.

    `package` is a zip file, or an image's URI. `code_only` leaves the configuration of one that is there as it is.
    """
    image = isinstance(package, str)
    code = {"ImageUri": package} if isinstance(package, str) else {"ZipFile": base64.b64encode(package).decode()}
    existing = api.find("GET", function_path(wish.name, "/configuration"))
    architecture = wish.architecture or (_host_architecture(api) if existing is None else None)
    on = {} if architecture is None else {"Architectures": [architecture]}
    within_s = IMAGE_SETTLED_WITHIN_S if image else SETTLED_WITHIN_S
    if existing is None:
        api.call(
            "POST",
            FUNCTIONS,
            {
                "FunctionName": wish.name,
                "Role": ROLE,
                "Code": code,
                **({"PackageType": "Image"} if image else {}),
                **on,
                **wish.configuration(),
            },
            sending=sending,
        )
    else:
        api.call("PUT", function_path(wish.name, "/code"), {**code, **on}, sending=sending)
        if not code_only and (changes := wish.configuration()):
            settle(api, wish.name, within_s)
            api.call("PUT", function_path(wish.name, "/configuration"), changes)
    settle(api, wish.name, within_s)
    return existing is None


def _host_architecture(api: Api) -> str | None:
    """What new functions are for unless somebody says it: what the gateway's machine is, not x86_64 whatever it is."""
    return (api.find("GET", "/_lambent/status") or {}).get("architecture")


def settle(api: Api, name: str, within_s: float = SETTLED_WITHIN_S) -> None:
    """Wait until nothing is pending. Raises click.ClickException with AWS's reason when it failed."""
    waits = 0
    while True:
        now = api.call("GET", function_path(name, "/configuration")).json()
        for state, reason in (("State", "StateReason"), ("LastUpdateStatus", "LastUpdateStatusReason")):
            if now.get(state) == "Failed":
                raise click.ClickException(f"{name} cannot be used: {now.get(reason) or 'no reason given'}")
        if now.get("State") == "Active" and now.get("LastUpdateStatus") != "InProgress":
            return
        if waits * 0.02 > within_s:
            raise click.ClickException(f"{name} is still {now.get('State')} after {within_s:g} s")
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
    architecture: str | None = None

    def wish(self, api: Api) -> tuple[Wish, str]:
        """The function, and from what runtime and handler were concluded. Raises click.ClickException."""
        runtime, handler, because = self.runtime, self.handler, ""
        if runtime is None or handler is None:
            found = _detected(self.directory, api)
            because = f"from {found.because}" if handler is None else "the runtime from the files"
            runtime, handler = runtime or found.runtime, handler or found.handler
        wish = Wish(
            name=self.name,
            runtime=runtime,
            handler=handler,
            memory_mb=self.memory_mb,
            timeout_s=self.timeout_s,
            environment=self.environment,
            architecture=self.architecture,
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
        except Unfit as error:
            raise click.ClickException(str(error)) from error


@click.command(
    "deploy",
    epilog="""\b
Examples:
  lambent deploy hello/
  lambent deploy hello/ --watch
  lambent deploy . --name api --memory 512 --timeout 30 --env STAGE=test
  lambent deploy build/ --runtime python3.12 --handler app.handler --no-url
  lambent deploy build/ --runtime python3.11 --architecture arm64
  lambent deploy mine --image mine:latest
  lambent deploy mine --image ./image.tar --handler app.handler

Files that `.lambentignore` in DIR names (like .gitignore) are left out, and .git, .venv, caches, what editors put there.""",
)
@click.argument("target", metavar="DIR|NAME", required=False)
@click.option(
    "--image",
    metavar="REF",
    help="Deploy a container image as the function NAME (if not said, that of the image): a name that the Docker Engine has or "
    "can pull, or the path of an OCI archive, an OCI layout or what `docker save` wrote.",
)
@click.option("--name", help="Name of the function; otherwise that of the directory.")
@click.option("--runtime", help="For instance python3.12 or provided.al2023; otherwise told from the files.")
@click.option("--handler", help="For instance app.handler; otherwise told from the files. Of an image: its command.")
@click.option(
    "--architecture",
    type=click.Choice(["x86_64", "arm64"]),
    help="What the code is built for; if not said, a new function has that of the machine.",
)
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
    target: str | None,
    image: str | None,
    name: str | None,
    runtime: str | None,
    handler: str | None,
    architecture: str | None,
    memory: int | None,
    timeout: int | None,
    variables: tuple[str, ...],
    url: bool,
    stay: bool,
    endpoint: str,
) -> None:
    """Put the directory DIR, or a container image, online as a function: create it, or bring it up to date."""
    environment = dict(_variable(text) for text in variables) if variables else None
    if image is not None:
        uri = image_uri(image)
        if runtime is not None or stay:
            raise click.UsageError(f"{'--watch' if stay else '--runtime'} is for directories, not for images")
        wish = Wish(
            name=name or target or _name_of(image),
            memory_mb=memory,
            timeout_s=timeout,
            environment=environment,
            architecture=architecture,
            command=None if handler is None else (handler,),
        )
        with contextlib.closing(Api(endpoint)) as api:
            with following(f"getting {image}", lambda: _far(endpoint, uri)):
                new = put(api, wish, uri)
            _finish(api, wish.name, f"{'created' if new else 'updated'} {wish.name} (image {image})", url=url)
        return
    directory = _directory(target)
    source = Source(
        directory=directory,
        name=name or _name_for(directory.name, directory),
        runtime=runtime,
        handler=handler,
        memory_mb=memory,
        timeout_s=timeout,
        environment=environment,
        architecture=architecture,
    )
    with contextlib.closing(Api(endpoint)) as api:
        wish, because = source.wish(api)
        if because:
            click.echo(f"{wish.runtime}, handler {wish.handler} ({because})", err=True)
        with bars() as step:
            package = source.package(step("packing"), quickly=stay)
            new = put(api, wish, package, step("uploading", "unpacking"))
        done = f"{'created' if new else 'updated'} {wish.name} ({len(package) / 1024:,.1f} KB)"
        _finish(api, wish.name, done, url=url, oversight=oversight(directory, wish.runtime or ""))
    if stay:
        from gateway.cli.watch import Watch

        sys.stdout.flush()
        Watch(source, endpoint, wish, package, url=url).run()


def _far(endpoint: str, uri: str) -> tuple[int, int] | None:
    """How much of an image the gateway has: bytes here, bytes in all; None where it tells nothing."""
    api = Api(endpoint, timeout_s=5)
    try:
        now = (api.find("GET", "/_lambent/status") or {}).get("pulls", {}).get(uri)
    except click.ClickException:
        return None
    finally:
        api.close()
    return None if now is None else (now["done_bytes"], now["total_bytes"])


def _finish(api: Api, name: str, done: str, *, url: bool, oversight: str | None = None) -> None:
    """Tell what was done, what speaks against it, and where it answers."""
    click.echo(done, err=True)
    with waiting("looking whether it can run here"):
        advice = api.find("GET", f"{ADVICE}{name}") or []
    for sentence in [*advice, oversight] if oversight else advice:
        click.echo(f"lambent: {name}: {sentence}", err=True)
    if url:
        click.echo(publish_url(api, name))


def image_uri(ref: str) -> str:
    """What the gateway understands: a name as it is, a path absolute and with what it is. Raises click.BadParameter."""
    scheme, colon, rest = ref.partition(":")
    if not (colon and scheme in SCHEMES):
        if not ref.startswith(("/", "./", "../")) and not ref.endswith(".tar"):
            return ref
        scheme, rest = "oci" if Path(ref).is_dir() else "oci-archive", ref
    path, colon, tag = (rest, "", "") if Path(rest).exists() else rest.rpartition(":")
    if not path or not Path(path).exists():
        raise click.BadParameter(f"there is no file {path or rest}", param_hint="'--image'")
    return f"{scheme}:{Path(path).resolve()}{colon}{tag}"


def _name_of(ref: str) -> str:
    last = ref.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return _name_for(last.removesuffix(".tar"), ref)


def _directory(target: str | None) -> Path:
    if target is None:
        raise click.UsageError("Missing argument 'DIR'.")
    directory = Path(target)
    if not directory.is_dir():
        wrong = "is a file; an image is deployed with --image" if directory.exists() else "does not exist"
        raise click.BadParameter(f"Directory {target!r} {wrong}.", param_hint="'DIR'")
    return directory.resolve()


def _detected(directory: Path, api: Api) -> Detected:
    try:
        return detect(directory, python_runtimes(api), node_runtimes(api))
    except NothingFound as error:
        raise click.ClickException(str(error)) from (error.__cause__ or error)


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


def _name_for(text: str, what: object) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:64]
    if not name:
        raise click.BadParameter(f"{what} gives no name; say one", param_hint="--name")
    return name


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not of the form K=V", param_hint="--env")
    return name, value
