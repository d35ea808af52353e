"""What `lambent up` would meet with these settings: its port, its data directory, its user, the memory for sandboxes.

Nothing is made or changed: the port is bound for an instant, the lock of the data directory is only asked for, and the database
is not opened, since SQLite would leave files of the wrong owner beside it.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import http.client
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway import host, listening, up
from gateway.settings import SettingError, Settings, load, unknown
from gateway.store.db import schemas
from sandbox.docker import ways
from sandbox.native import surroundings
from sandbox.native.probe import Fact, Level, guarded

MIB: Final = 1 << 20
LITTLE_SPACE: Final = 1024 * MIB  #: a few packages of AWS's largest size, 250 MB unpacked
LITTLE_MEMORY: Final = 512 * MIB  #: four of AWS's smallest functions
ASK_S: Final = 1.0
_SCHEMA_AT: Final = 60  #: in an SQLite file: https://www.sqlite.org/fileformat.html#user_version_number


def gateway(flags: Mapping[str, str | bool | None], env: Mapping[str, str], config: Path | None) -> list[Fact]:
    """All facts that depend on settings; the only one is that, where they are wrong. Forks: call it before there are threads."""
    try:
        settings = load(flags, env, config)
    except SettingError as error:
        return [Fact("settings", Level.MISSING, str(error), "correct it there")]
    facts = [Fact("settings", Level.GOOD, f"{config} and the environment" if config else "defaults and the environment")]
    if mistaken := unknown(env):
        facts = [Fact("settings", Level.DEGRADED, "; ".join(mistaken), "correct it there")]
    if os.geteuid() == 0:
        facts.append(guarded("user", lambda: user(settings)))
    return [
        *facts,
        guarded("port", lambda: port(settings.host, settings.port)),
        guarded("data directory", lambda: data_directory(settings.data_dir)),
        guarded("memory", lambda: memory(host.memory_budget_bytes(settings))),
    ]


def engine(flags: Mapping[str, str | bool | None], env: Mapping[str, str], config: Path | None) -> Fact:
    """The Docker Engine, and how root would deal with its containers: the quick ways, or those that are left."""
    try:
        settings = load(flags, env, config)
    except SettingError:
        return surroundings.docker_engine()
    address = env.get("DOCKER_HOST") or settings.docker_host
    if os.geteuid() != 0:
        return surroundings.docker_engine(address)
    found = ways.find(settings.docker_runtime_api, settings.docker_mounts, settings.docker_freeze)
    return surroundings.docker_engine(address, str(found), degraded=bool(found.why))


def user(settings: Settings) -> Fact:
    """Whom the gateway runs as."""
    try:  # what is to be made can be read by whom it is made for
        uid, why_not = up.choose_user(dataclasses.replace(settings, data_dir=_existing(settings.data_dir)))
    except (up.Refused, SettingError) as error:
        return Fact("user", Level.MISSING, str(error), "make the user, or name another with --user")
    if why_not is None:
        return Fact("user", Level.GOOD, f"the gateway runs as {up.name_of(uid)}")
    detail = f"the gateway runs as root without any capability: {why_not}"
    command = "python3 -m venv /opt/lambent && /opt/lambent/bin/pip install ."
    return Fact(
        "user", Level.DEGRADED, detail, "install Lambent where everybody can read it, with a Python that everybody can", command
    )


def port(address: str, number: int) -> Fact:
    """Whether it can be listened on; that Lambent listens there already is good news."""
    try:
        listening.listener(address, number).close()
    except OSError as error:
        where = host.endpoint(address, number)
        if error.errno == errno.EADDRINUSE:
            if (version := _lambent_at(address, number)) is not None:
                return Fact("port", Level.GOOD, f"Lambent {version} serves at {where}")
            free = next((other for other in range(number + 1, min(number + 100, 65536)) if _free(address, other)), 0)
            detail = f"something that is not Lambent listens at {address}:{number}"
            return Fact("port", Level.MISSING, detail, "stop that, or take another port", f"lambent up --port {free}")
        detail = f"cannot listen at {address}:{number}: {error.strerror or error}"
        return Fact("port", Level.MISSING, detail, "ports below 1024 are for root; --host must be an address of this machine")
    return Fact("port", Level.GOOD, f"{address}:{number} is free" if number else "a free one will be taken")


def _free(address: str, number: int) -> bool:
    try:
        listening.listener(address, number).close()
    except OSError:
        return False
    return True


def _lambent_at(address: str, number: int) -> str | None:
    """The version of the Lambent that answers there, None where none does within `ASK_S`."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    connection = http.client.HTTPConnection(reached, number, timeout=ASK_S)
    try:
        connection.request("GET", "/_lambent/status")
        return str(json.loads(connection.getresponse().read(1 << 24))["version"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def data_directory(path: Path) -> Fact:
    """Whether functions can be kept at `path`, or at what is there of it. Raises OSError."""
    name, elsewhere = "data directory", "give another with --data-dir"
    there = _existing(path)
    if not there.is_dir():
        return Fact(name, Level.MISSING, f"{there} is not a directory", elsewhere)
    if not os.access(there, os.W_OK | os.X_OK):
        why = "is on a read-only file system" if os.statvfs(there).f_flag & os.ST_RDONLY else "is not writable for this user"
        return Fact(name, Level.MISSING, f"{there} {why}", f"be who may write there, or {elsewhere}")
    newest = schemas()[-1][0]
    if (schema := _schema(path / up.STATE / "lambent.db")) > newest:
        detail = f"{path} was written by a newer Lambent: it has schema {schema}, and this one knows schemas up to {newest}"
        return Fact(name, Level.MISSING, detail, f"run the newer one, or {elsewhere}")
    space = os.statvfs(there)
    left = space.f_bavail * space.f_frsize
    if left < LITTLE_SPACE:
        detail = f"{left // MIB} MB are free at {there}: code, logs and /tmp of all sandboxes share them"
        return Fact(name, Level.DEGRADED, detail, f"make room, or {elsewhere}", f"du -xh --max-depth=1 {there} | sort -h")
    use = ", in use by a running Lambent" if path.exists() and _locked(path) else "" if path.exists() else ", to be made"
    return Fact(name, Level.GOOD, f"{path}{use}; {left // (1024 * MIB)} GB free")


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _schema(database: Path) -> int:
    """What the header says; what was migrated but is still in the write-ahead log is this version's own or read at the start."""
    try:
        with database.open("rb") as file:
            header = file.read(_SCHEMA_AT + 4)
    except FileNotFoundError:
        return 0
    return int.from_bytes(header[_SCHEMA_AT:], "big") if len(header) == _SCHEMA_AT + 4 else 0


def _locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def memory(budget_bytes: int) -> Fact:
    """What all sandboxes together may have."""
    room = f"{budget_bytes // MIB} MB for all sandboxes together"
    if budget_bytes < LITTLE_MEMORY:
        detail = f"{room}: no more than {budget_bytes // (128 * MIB)} of AWS's smallest functions at once"
        return Fact(
            "memory", Level.DEGRADED, detail, "free some, or say how much with --memory-budget-mb", "ps aux --sort=-rss | head"
        )
    return Fact("memory", Level.GOOD, room)
