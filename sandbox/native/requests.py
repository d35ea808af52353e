"""What the gateway asks for, checked as if a stranger asked: what is built of it is done by root."""

from __future__ import annotations

import dataclasses
import re
import signal

from sandbox.native.channel import Message, encode
from sandbox.spec import IMAGE_URI_MAX_CHARS

DEFAULT_TMP_MB = 512  #: a stem's /tmp; who wants another size gets another one
_ID = re.compile(r"[a-z0-9-]{1,40}")


class Refused(Exception):
    """The request is not one that this spawner grants."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Specialisation:
    """A stem's function."""

    code: str | None  #: below the code store; None for an image, which has it in its files
    opt: str | None
    environment: dict[str, str]
    python: str  #: fork: go on as the interpreter that waits; exec: a fresh one; none: a program of its own
    interpreter: str
    command: list[str] | None  #: an image's entry point
    directory: str
    foreign: bool  #: an image of another architecture than the function's
    extensions: list[str]  #: names in /opt/extensions
    extension_environment: dict[str, str]
    memory_mb: int
    tmp_mb: int

    @classmethod
    def of(cls, message: Message) -> Specialisation:
        """Raises Refused."""
        extensions, command = message.get("extensions"), message.get("command")
        if not isinstance(extensions, list) or not all(map(_is_file_name, extensions)):
            raise Refused(f"extensions: {extensions!r}")
        if command is not None and not (isinstance(command, list) and all(isinstance(part, str) for part in command)):
            raise Refused(f"command: {command!r}")
        python = message.get("python")
        if python not in ("fork", "exec", "none"):
            raise Refused(f"python: {python!r}")
        code, opt = message.get("code"), message.get("opt")
        return cls(
            code=str(code) if code or command is None else None,
            opt=str(opt) if opt else None,
            environment=_variables(message.get("environment")),
            python=str(python),
            interpreter=str(message.get("interpreter")),
            command=command,
            directory=str(message.get("directory")),
            foreign=message.get("foreign") is True,
            extensions=extensions,
            extension_environment=_variables(message.get("extension_environment")),
            memory_mb=_within(message, "memory_mb", 32, 32768),
            tmp_mb=_within(message, "tmp_mb", 16, 32768),
        )

    def for_init(self, mounts: list[str], init_uid: int) -> Message:
        """As init is told it; what the runtime is told is in it as a text, which init passes on as it is."""
        begin: Message = {
            "environment": self.environment,
            "python": self.python,
            "interpreter": self.interpreter,
            "foreign": self.foreign,
        }
        if self.command is not None:
            begin |= {"command": self.command, "directory": self.directory}
        return {
            "op": "specialise",
            "mounts": mounts,
            "python": self.python,
            "init_uid": init_uid,
            "extensions": self.extensions,
            "extension_environment": self.extension_environment,
            "begin": encode(begin).decode(),
        }


def id_of(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Refused(f"not an id: {value!r}")
    return value


def uri_of(message: Message) -> str:
    """Raises Refused for what no gateway lets a function have."""
    uri = message.get("uri")
    if not isinstance(uri, str) or len(uri) > IMAGE_URI_MAX_CHARS:
        raise Refused("not the URI of an image")
    return uri


def signal_of(message: Message) -> Message:
    number, extension = message.get("number"), message.get("extension")
    if number not in (signal.SIGTERM, signal.SIGKILL) or not (extension is None or _is_file_name(extension)):
        raise Refused(f"signal {number!r} to {extension!r}")
    return {"op": "signal", "number": number, "extension": extension}


def moment_of(message: Message) -> float:
    at_s = message.get("at_s")
    if not isinstance(at_s, float):
        raise Refused(f"at_s: {at_s!r}")
    return at_s


def _variables(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) and "\0" not in each for each in value.values()):
        raise Refused("the environment is not one of strings")
    return value


def _within(message: Message, name: str, least: int, most: int) -> int:
    value = message.get(name)
    if not isinstance(value, int) or not least <= value <= most:
        raise Refused(f"{name}: {value!r}")
    return value


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and not {"/", "\0"} & set(value)
