"""What a driver is asked for. [P]

Two things are asked of a driver, at two times. A *stem* is wanted ahead of need and knows only which runtime it will
serve. A *function* is given to a stem later, when the first event is waiting, and so everything that can be done
without knowing the function has been done by then.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from typing import Any, Final

IMAGE_URI_MAX_CHARS: Final = 4096  #: of an ImageUri; names are far shorter, and no path may be longer
#: For what an image says of how it is started, and again for what a function's ImageConfig says instead, as `settings_bytes`
#: measures it. A function's start is one message between processes, of at most 160 KB, and holds both, with characters doubled
#: where they are quoted a second time, and the variables once more for extensions: 3 × 16 for the image, 2 × 16 for the
#: ImageConfig, 40 for the function's own 4 KB of variables and AWS's.
IMAGE_SETTINGS_MAX_BYTES: Final = 16 << 10


def settings_bytes(*settings: object) -> int:
    """What they take where they are sent."""
    return len(json.dumps(settings))


class Architecture(enum.StrEnum):
    """The instruction sets of AWS Lambda, in its own spelling."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


@dataclasses.dataclass(frozen=True, slots=True)
class StemKey:
    """What stems are interchangeable by."""

    runtime: str  #: AWS's identifier, for instance ``python3.11`` or ``provided.al2023``
    architecture: Architecture
    image: str = ""  #: id of the image of an image function; its stems are nobody else's

    @property
    def name(self) -> str:
        """For people: the runtime, or the image's beginning."""
        return self.runtime or self.image[:19]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image as it was when somebody asked: by its id it stays the same whatever becomes of its name."""

    id: str  #: digest of its configuration, ``sha256:`` and 64 digits
    resolved_uri: str
    size_bytes: int
    architecture: str  #: Go's name: amd64, arm64
    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    directory: str = "/"  #: where its program starts
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extensions: tuple[str, ...] = ()  #: names of the files in its /opt/extensions

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Image:
        """The opposite of `plain`."""
        lists = {name: tuple(plain[name]) for name in ("entry_point", "command", "extensions")}
        return cls(**{**plain, **lists})


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """What an image function runs: the image's own words, or those of the function's ImageConfig in their place."""

    image: str  #: id
    command: tuple[str, ...]  #: entry point and arguments; empty where neither has any
    directory: str
    environment: Mapping[str, str]  #: the image's own
    architecture: str = ""  #: the image's own, by Go's name; empty where it says none


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """All that a sandbox must know to run one version of one function; immutable, made by the gateway.

    ``environment`` holds the function's own variables only; what AWS adds is put in by ``sandbox.environment``.
    """

    account_id: str
    region: str
    name: str
    version: str  #: ``$LATEST`` or a number
    arn: str  #: unqualified
    runtime: str
    architecture: Architecture
    handler: str
    memory_mb: int
    timeout_s: float
    tmp_mb: int
    code_path: str  #: directory that becomes /var/task, never changed once it is there
    opt_path: str = ""  #: directory that becomes /opt, never changed once it is there; empty where nothing does
    extensions: tuple[str, ...] = ()  #: names of the files in /opt/extensions: each is started as an external extension
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    initialization_type: str = "on-demand"
    log_group: str
    log_stream: str
    log_format: str = "Text"
    program: Program | None = None  #: of an image function, which has no runtime, no handler and no code of its own
    log_level: str | None = None  #: least level of the function's own entries, with the JSON format only

    @property
    def stem(self) -> StemKey:
        return StemKey(self.runtime, self.architecture, self.program.image if self.program else "")
