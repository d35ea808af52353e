"""What the supervisor tells a spawner on its command line."""

from __future__ import annotations

import dataclasses
from typing import Literal

from sandbox import process_log
from sandbox.native.cpu import Mode

SPARE_VOLUMES = 100  #: a burst takes them at once; each is a descriptor and 55 KB of memory
SPARE_NETWORKS = 100  #: the same; three descriptors and 230 KB
SPARE_GROUPS = 100  #: the same, but without a descriptor


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the supervisor says on the command line, as JSON."""

    listen_fd: int  #: listening SOCK_SEQPACKET unix socket
    owner: str  #: label of this installation's cgroups; lower-case letters, digits and dashes
    code_dir: str  #: the code store; nothing outside is ever mounted
    volume_dir: str  #: on disk, for the images behind /tmp; only root may write there, and beside it are porter/ and images/
    run_dir: str  #: for mount points; only root may write there
    uid_base: int  #: the inits' uid; sandboxes have those above it
    max_sandboxes: int
    cpu: Mode = "weight"
    spare_volumes: int = SPARE_VOLUMES
    spare_networks: int = SPARE_NETWORKS
    spare_groups: int = SPARE_GROUPS
    network: str = "none"  #: none, nat, or auto: nat where it can be had
    network_allow: tuple[str, ...] = ()  #: networks that nat lets through although they are the host's or a metadata service's
    network_range: str | None = None  #: IPv4 network of all sandboxes
    log_level: process_log.Level = "info"
    log_format: process_log.Form = "text"
    engine: str = ""  #: address of the Docker Engine; empty where none is to be used
    docker_runtime_api: Literal["auto", "inside", "bridge"] = "auto"  #: `sandbox.docker.ways` says what these mean
    docker_mounts: Literal["auto", "move", "spread"] = "auto"
    docker_freeze: Literal["auto", "cgroup", "pause"] = "auto"
    runtime_images: str = ""  #: name of the image of a runtime, with {runtime} and {architecture} in it
    images_max_mb: int = 20_480  #: for all unpacked images together
