"""The nouns of AWS Lambda as immutable records: what the store keeps and the hot path reads. [P]

A record is never changed: a use case makes a new one with `dataclasses.replace` and puts it into the catalog, so that an
invocation that resolved the old one finishes on it. Names are ours; the wire's names are given by `gateway.edge`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sandbox.spec import Architecture, Image, Program, StemKey

LATEST = "$LATEST"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoggingConfig:
    """Advanced logging controls; `application_level` and `system_level` only with the JSON format."""

    log_format: str = "Text"
    log_group: str
    application_level: str | None = None
    system_level: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """Provisioned concurrency of a version or an alias, as it was asked for."""

    executions: int
    last_modified: str  #: as AWS writes it, ``2019-12-31T20:28:49+0000``


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UsedLayer:
    """A layer version as a function has it: all that is needed of one that may be deleted meanwhile."""

    arn: str
    code_size_bytes: int
    unzipped_bytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageCode:
    """What an image function runs: the image as it was found, and what the function's ImageConfig says instead of it."""

    uri: str  #: as the caller wrote it
    image: Image
    entry_point: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    directory: str | None = None
    pulling: str = ""  #: URI of an image that is to take this one's place and is on its way; see `control.pulling`
    pulling_for: str = ""  #: the architecture that it is wanted for

    @property
    def program(self) -> Program:
        """As for Docker, an entry point that is said anew does without the image's command."""
        command = self.command
        if command is None:
            command = () if self.entry_point is not None else self.image.command
        entry_point = self.image.entry_point if self.entry_point is None else self.entry_point
        directory = self.directory or self.image.directory
        return Program(self.image.id, (*entry_point, *command), directory, self.image.environment, self.image.architecture)


class Grouped:
    """What leads from a record to what the scheduler has of it: the group of sandboxes that run it, or None.

    It is no part of the record, neither of its value nor of what is stored or copied. But each invocation comes with the record
    at hand, and where there are thousands of them a look-up costs a third of all that the scheduler does.
    """

    __slots__ = ("group",)
    group: Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FunctionVersion(Grouped):
    """One version of one function; `version` is ``$LATEST`` or a number. What an invocation runs.

    `generation` rises with every change of code or configuration of ``$LATEST``; a sandbox belongs to one generation.
    """

    account_id: str
    region: str
    name: str
    version: str
    generation: int
    runtime: str  #: empty where there is an image
    handler: str  #: empty where there is an image
    role: str
    architecture: Architecture
    code_sha256: str  #: base64, as AWS shows it
    code_size_bytes: int
    code_key: str  #: name of the unpacked code in the code store (hex digest of the archive)
    image: ImageCode | None = None  #: with package type Image, and then no code_key, no layers
    memory_mb: int = 128
    timeout_s: int = 3
    tmp_mb: int = 512
    description: str = ""
    environment: Mapping[str, str] | None = None
    logging: LoggingConfig
    tracing_mode: str = "PassThrough"
    dead_letter_arn: str | None = None
    kms_key_arn: str | None = None
    snap_start: str = "None"
    layers: tuple[UsedLayer, ...] = ()  #: in the order in which they are merged
    provisioned: Provisioned | None = None  #: of a published version itself, not of aliases that point to it
    opt_key: str = ""  #: name in the code store of what becomes /opt; empty without layers
    last_modified: str  #: as AWS writes it, ``2019-11-14T18:16:05.568+0000``
    revision_id: str
    state: str = "Active"
    state_reason: str | None = None
    state_reason_code: str | None = None
    last_update_status: str = "Successful"
    last_update_reason: str | None = None
    last_update_reason_code: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", None)

    @property
    def unqualified_arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account_id}:function:{self.name}"

    @property
    def stem(self) -> StemKey:
        """Which stems can become it."""
        return StemKey(self.runtime, self.architecture, self.image.image.id if self.image else "")

    @property
    def arn(self) -> str:
        return f"{self.unqualified_arn}:{self.version}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name for a version, with at most one more version that gets `weights`' share of the invocations.

    Where it has provisioned concurrency and is moved, `former` is what it was and goes on to serve its invocations until what it
    points to now is provisioned.
    """

    name: str
    version: str
    description: str = ""
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    revision_id: str
    provisioned: Provisioned | None = None
    former: Alias | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Cross-origin settings of a function URL."""

    allow_credentials: bool = False
    allow_headers: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_s: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UrlConfig:
    """A function URL of ``$LATEST`` (`qualifier` None) or of an alias."""

    url_id: str  #: 32 lower-case letters and digits; the host name's first label
    function_name: str
    qualifier: str | None
    auth_type: str  #: ``NONE`` or ``AWS_IAM``
    invoke_mode: str = "BUFFERED"
    cors: Cors | None = None
    creation_time: str
    last_modified_time: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a resource policy, as AddPermission made it."""

    sid: str
    effect: str
    principal: str | Mapping[str, str]
    action: str
    resource: str
    condition: Mapping[str, Mapping[str, str]] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The resource policy of a function (qualifier None), version or alias."""

    statements: tuple[Statement, ...] = ()
    revision_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function with all that hangs on it: the unit that the catalog swaps in one assignment."""

    name: str
    versions: Mapping[str, FunctionVersion]  #: by version, ``$LATEST`` among them
    aliases: Mapping[str, Alias] = dataclasses.field(default_factory=dict)
    urls: Mapping[str | None, UrlConfig] = dataclasses.field(default_factory=dict)  #: by qualifier
    policies: Mapping[str | None, Policy] = dataclasses.field(default_factory=dict)  #: by qualifier
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    next_version: int = 1
    reserved_concurrency: int | None = None
    recursive_loop: str = "Terminate"  #: or ``Allow``

    @property
    def latest(self) -> FunctionVersion:
        return self.versions[LATEST]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LayerVersion:
    """One version of a layer; it never changes, but for its policy."""

    version: int
    code_sha256: str  #: base64, as AWS shows it
    code_size_bytes: int
    code_key: str  #: name in the code store
    unzipped_bytes: int
    description: str = ""
    license_info: str | None = None
    runtimes: tuple[str, ...] | None = None  #: what it says it is good for, None where it says nothing; lists filter by it
    architectures: tuple[str, ...] | None = None
    created: str  #: as AWS writes it, ``2019-11-14T18:16:05.568+0000``
    policy: Policy | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer with its versions. It stays when all of them are deleted: numbers are not given twice."""

    name: str
    versions: Mapping[int, LayerVersion] = dataclasses.field(default_factory=dict)
    next_version: int = 1
