"""Every setting of `lambent up`, defined once: name, type, default, limits and the sentence that explains it.

A setting is a flag (``--drain-s``), an environment variable (``LAMBENT_DRAIN_S``) or a key (``drain_s``) of the TOML file that
``--config`` names; the first of these that says something wins. Text from a flag or the environment and a value from the file go
through the same parser, so a mistake is told in the same words wherever it was made, with the place it came from. Nothing else in
the gateway reads the environment or a configuration file: `app.py` hands each part the values it uses.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import re
import tomllib
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_type_hints

PREFIX: Final = "LAMBENT_"
CONFIG: Final = "LAMBENT_CONFIG"

#: Variables that are no settings: of the commands, and of the tests.
_OTHERS: Final = (CONFIG, "LAMBENT_ENDPOINT", "LAMBENT_REQUIRE")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})
_LARGEST_RANGE: Final = 8
_SMALLEST_RANGE: Final = 22  # 1,022 addresses: each sandbox takes one
_LOOPBACK: Final = re.compile(r"localhost|::1|127(\.\d{1,3}){3}")


class SettingError(Exception):
    """A setting cannot be what it was set to; the message names the setting and where the value came from."""


def _setting(default: Any, help: str, *, least: float | None = None, most: float | None = None, shape: str | None = None) -> Any:
    """A field with its help text and limits. `shape` is a regular expression for the whole of a text."""
    return dataclasses.field(default=default, metadata={"help": help, "least": least, "most": most, "shape": shape})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `lambent up` was told, checked. None means that the default depends on the host and is worked out by who uses it."""

    host: str = _setting("127.0.0.1", "Address to listen on. Anything but loopback needs --insecure.", shape=r"\S+")
    port: int = _setting(9000, "Port to listen on; 0 takes a free one.", least=0, most=65535)
    insecure: bool = _setting(False, "Listen on an address that others can reach although no request is authenticated yet.")
    data_dir: Path = _setting(
        dataclasses.MISSING,
        "Where functions are kept. Default: /var/lib/lambent for root, else lambent in the user's data directory.",
    )
    driver: Literal["auto", "native", "docker"] = _setting(
        "auto",
        "What runs functions. native (auto): sandboxes where root starts it, plain processes without isolation elsewhere. "
        "docker: containers of a Docker Engine.",
    )
    docker_host: str = _setting("unix:///var/run/docker.sock", "The Docker Engine of this machine.", shape=r"unix:///\S+")
    runtime_images: str = _setting(
        "lambent/{runtime}:{architecture}", "Images in which zip functions run: with the docker driver, and where their "
        "architecture is another one; docker-archive:/DIRECTORY/{runtime}-{architecture}.tar needs no engine.",
        shape=r"\S*\{runtime\}\S*",
    )  # fmt: skip
    images_max_mb: int = _setting(
        20_480, "Disk for the unpacked images of functions; those that no function uses any more are removed.", least=64
    )
    docker_runtime_api: Literal["auto", "inside", "bridge"] = _setting(
        "auto", "inside (auto): containers are in networks of Lambent's own, with the Runtime API inside. bridge: they are in "
        "one of the engine's, with the Runtime API at its bridge's address.",
    )  # fmt: skip
    docker_mounts: Literal["auto", "move", "spread"] = _setting(
        "auto", "How code reaches a container. move (auto): as mounts that are moved in; spread: mounted on this machine, shared."
    )
    docker_freeze: Literal["auto", "cgroup", "pause"] = _setting(
        "auto", "What freezes containers. cgroup (auto): a write to their cgroup; pause: the engine, which takes milliseconds."
    )
    network: Literal["auto", "nat", "none"] = _setting(
        "auto",
        "What sandboxes reach. nat: everything but this machine, its metadata service and each other; none: nothing; "
        "auto: nat where this machine can give it.",
    )
    network_allow: str = _setting(
        "", "Addresses and networks, separated by commas, that functions may reach although they are this machine's own or a "
        "metadata service's.",
    )  # fmt: skip
    network_range: str | None = _setting(
        None, "Network of the sandboxes' own IPv4 addresses, for instance 10.99.0.0/16. Default: a free one within 10.64.0.0/10."
    )
    user: str | None = _setting(
        None,
        "User (name or number) that the gateway runs as when root starts it. Default: lambent if there is one, else --uid-base.",
    )
    account_id: str = _setting("000000000000", "The AWS account number in ARNs.", shape=r"\d{12}")
    region: str = _setting("us-east-1", "The AWS region in ARNs and function URLs.", shape=r"[a-z]{2}(-[a-z]+)+-\d")
    url_style: Literal["auto", "host", "path"] = _setting(
        "auto", "How function URLs look. host: http://ID.lambda-url.REGION.localhost/, path: http://HOST/_urls/ID/, "
        "auto: host where the resolver knows *.localhost."
    )  # fmt: skip
    url_base: str | None = _setting(
        None, "Where clients reach this gateway, for instance https://lambda.example.com. Default: from --host and --port.",
        shape=r"https?://[^/?#\s]+",
    )  # fmt: skip
    concurrency_limit: int = _setting(1000, "Invocations of the whole account that may run at once.", least=1, most=1_000_000)
    request_rate: int = _setting(
        10, "Invocations a second for each unit of concurrency, AWS's limit; 0 lifts it.", least=0, most=1_000_000
    )
    scaling_rate: int = _setting(
        1000, "Sandboxes of one function that may be started in 10 seconds, AWS's limit; 0 lifts it.", least=0, most=1_000_000
    )
    queue_max: int = _setting(
        10_000, "Invocations that may wait for a sandbox at once; more are answered 429.", least=0, most=1_000_000
    )
    queue_max_per_function: int = _setting(1000, "The same for one version of one function.", least=0, most=1_000_000)
    queue_wait_s: float = _setting(
        30.0, "Longest wait for a sandbox before an invocation is answered 429; or 500 (ServiceException), where none of the "
        "function's is at work and the first is still starting.", least=0.1, most=900,
    )  # fmt: skip
    max_sandboxes: int = _setting(1000, "Sandboxes of all functions together, idle and frozen ones too.", least=1, most=100_000)
    memory_budget_mb: int | None = _setting(
        None, "Memory for all sandboxes together. Default: 80 % of what is available at the start.", least=64
    )
    cpu: Literal["weight", "quota", "none"] = _setting(
        "weight", "What of the processors a function gets for its memory, one for each 1,769 MB. weight: so much when there are "
        "not enough for all; quota: never more, as AWS; none: all functions the same."
    )  # fmt: skip
    freeze_after_ms: int = _setting(250, "An idle sandbox is frozen after this long; 0 freezes at once, as AWS does.", least=0)
    freeze_provisioned_after_ms: int | None = _setting(
        None, "The same for one of provisioned concurrency. Default: never.", least=0
    )
    keep_alive: Literal["worth", "fixed", "lru", "greedy-dual", "hybrid"] = _setting(
        "worth", "Which idle sandboxes are kept. worth: those that are likely to save most cold starts; they are started again "
        "before functions that are called regularly; fixed: all, for --keep-alive-s; lru, greedy-dual: all until memory is "
        "short; hybrid: by a histogram of idle times."
    )  # fmt: skip
    keep_alive_s: float = _setting(
        600.0, "fixed: an unused sandbox is stopped after this long; worth: not before this, unless memory is short.", least=0
    )
    stems_min: int | None = _setting(
        None, "Sandboxes without a function yet, kept ready for each runtime in use. Default: 4; of those of Python and provided "
        "runtimes, of 4 MB each, as many as a 128th of the memory budget holds, at most 32.",
        least=0, most=10_000,
    )  # fmt: skip
    stems_max: int | None = _setting(
        None, "The most of them that a runtime with many cold starts is given. Default: 16, or as many as are always ready.",
        least=0, most=10_000,
    )  # fmt: skip
    uid_base: int = _setting(
        2_000_000_000, "First of the user ids that sandboxes get, one each; nothing else on the host may use them.",
        least=1000, most=4_200_000_000,
    )  # fmt: skip
    metrics_functions: int = _setting(
        100, "Functions that /metrics tells apart; all others are counted together.", least=0, most=10_000
    )
    stream_max_mb: int = _setting(
        200, "The longest answer that a function may stream, in MB; AWS has 200.", least=1, most=100_000
    )
    stream_mb_per_s: float | None = _setting(
        None,
        "Speed of a streamed answer after its first 6 MB, where AWS has 2. Default: as fast as the client reads.",
        least=0.001,
    )
    drain_s: float = _setting(30.0, "After SIGTERM, how long running invocations may take to finish.", least=0, most=86_400)
    log_keep_days: int = _setting(
        14, "How long function logs are kept; 0 keeps them until there is too much.", least=0, most=36_500
    )
    log_total_mb: int = _setting(1024, "Disk for the logs of all functions together; the oldest go first.", least=16)
    log_function_mb: int = _setting(16, "The same for one function.", least=2, most=1_000_000)
    log_format: Literal["text", "json"] = _setting("text", "Form of Lambent's own log.")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Least important messages that are logged.")

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for a child process that calls `load`."""
        return {
            variable(field.name): str(value)
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) is not None
        }

    @property
    def loopback(self) -> bool:
        return _LOOPBACK.fullmatch(self.host) is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Definition:
    """What a command line needs to know of a setting to offer it."""

    name: str
    kind: type
    choices: tuple[str, ...]
    help: str
    default: Any

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _definition(field: dataclasses.Field[Any], hint: Any) -> Definition:
    choices: tuple[str, ...] = ()
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if kinds and isinstance(kinds[0], str):
        choices, kind = tuple(kinds), str
    else:
        kind = kinds[0] if kinds else hint
    return Definition(field.name, kind, choices, field.metadata["help"], field.default)


DEFINITIONS: Final[tuple[Definition, ...]] = tuple(
    _definition(field, get_type_hints(Settings)[field.name]) for field in dataclasses.fields(Settings)
)
_LIMITS: Final = {field.name: field.metadata for field in dataclasses.fields(Settings)}


def load(flags: Mapping[str, str | bool | None], env: Mapping[str, str], config: Path | None = None) -> Settings:
    """Settings from the flags that were given (None: not given), the environment and a TOML file, in this order.

    Raises SettingError for the first value that is wrong, for a key of the file that is no setting, and for settings
    that contradict each other.
    """
    from_flags = {name: value for name, value in flags.items() if value is not None}
    if config is None and env.get(CONFIG):
        config = Path(env[CONFIG])
    from_file = _read(config) if config is not None else {}
    values: dict[str, Any] = {}
    for definition in DEFINITIONS:
        name = definition.name
        if name in from_flags:
            values[name] = _parse(definition, from_flags[name], definition.flag)
        elif env.get(variable(name)):
            values[name] = _parse(definition, env[variable(name)], variable(name))
        elif name in from_file:
            values[name] = _parse(definition, from_file[name], f"{config}")
    if "data_dir" not in values:
        values["data_dir"] = _default_data_dir(env)
    settings = Settings(**values)
    _check(settings)
    return settings


def unknown(env: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks as if it were meant for Lambent and that nothing reads."""
    known = [name.removeprefix(PREFIX) for name in (*(variable(definition.name) for definition in DEFINITIONS), *_OTHERS)]
    sentences = []
    for name in sorted(env):
        rest = name.removeprefix(PREFIX)
        if rest != name and rest not in known:
            near = difflib.get_close_matches(rest, known, n=1)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            sentences.append(f"{name}: there is no such setting (from the environment){hint}")
    return sentences


def _read(config: Path) -> dict[str, Any]:
    try:
        with config.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise SettingError(f"config: cannot read {config}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"config: {config} is not valid TOML: {error}") from error
    known = [definition.name for definition in DEFINITIONS]
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            if isinstance(content[key], dict):
                hint = "; settings stand in no [table]"
            raise SettingError(f"{key}: there is no such setting (from {config}){hint}")
    return content


def _parse(definition: Definition, value: object, source: str) -> Any:
    """The value in the setting's type, from text or from what TOML gave."""

    def wrong(what: str) -> SettingError:
        return SettingError(f"{definition.name}: {value!r} {what} (from {source})")

    kind = definition.kind
    parsed: Any
    if kind is bool:
        text = str(value).lower()
        if text not in _TRUE | _FALSE:
            raise wrong("is neither true nor false")
        return text in _TRUE
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong("is not " + ("text" if kind in (str, Path) else "a number"))
    if kind in (int, float):
        try:
            parsed = float(value) if kind is float else int(value) if isinstance(value, int | str) else None
        except ValueError:
            parsed = None
        if parsed is None:
            raise wrong("is not a whole number" if kind is int else "is not a number")
        limits = _LIMITS[definition.name]
        if limits["least"] is not None and not parsed >= limits["least"]:
            raise wrong(f"is less than {limits['least']}")
        if limits["most"] is not None and not parsed <= limits["most"]:
            raise wrong(f"is more than {limits['most']}")
        return parsed
    if not isinstance(value, str):
        raise wrong("is not text; put it into quotes")
    if definition.choices and value not in definition.choices:
        raise wrong("is not one of " + ", ".join(definition.choices))
    shape = _LIMITS[definition.name]["shape"]
    if shape is not None and re.fullmatch(shape, value) is None:
        raise wrong("does not look like one" + (f", such as {definition.default}" if definition.default else ""))
    return Path(value).expanduser().absolute() if kind is Path else value


def _check(settings: Settings) -> None:
    """What no single setting can tell."""
    if not settings.loopback and not settings.insecure:
        raise SettingError(
            f"host: {settings.host} can be reached from outside, and nothing authenticates requests yet: whoever reaches the "
            "port can run code on this machine. Keep to 127.0.0.1 behind a proxy that authenticates, or say --insecure."
        )
    if settings.url_base is not None:
        _url("url_base", settings.url_base)
    for text in words(settings.network_allow):
        _network("network_allow", text)
    if settings.network_range is not None:
        _network("network_range", settings.network_range, most=_LARGEST_RANGE, least=_SMALLEST_RANGE)
    if settings.stems_max is not None and settings.stems_min is not None and settings.stems_max < settings.stems_min:
        raise SettingError(f"stems_max: {settings.stems_max} is less than stems_min, which is {settings.stems_min}")


def words(text: str) -> list[str]:
    """What a setting lists, separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _url(name: str, text: str) -> None:
    """Raises SettingError for a URL without a host, or with a port or an address that there cannot be."""
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise SettingError(f"{name}: {text!r} does not look like one: {error}") from None
    if not parts.hostname:
        raise SettingError(f"{name}: {text!r} does not look like one: it names no host")


def _network(name: str, text: str, *, most: int = 0, least: int = 128) -> None:
    """Raises SettingError for what is no network; with lengths of a prefix, also for what is none of IPv4 within those."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        raise SettingError(f"{name}: {error}") from None
    if most and (found.version != 4 or not most <= found.prefixlen <= least):
        raise SettingError(f"{name}: {text} is not an IPv4 network from /{most} to /{least}")


def _default_data_dir(env: Mapping[str, str]) -> Path:
    """As the file system hierarchy and the XDG base directory specification have it."""
    if os.geteuid() == 0:
        return Path("/var/lib/lambent")
    home = env.get("XDG_DATA_HOME") or ""
    base = Path(home) if home.startswith("/") else Path(env.get("HOME") or Path.home()) / ".local" / "share"
    return base / "lambent"
