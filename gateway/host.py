"""What the defaults of some settings depend on: facts about this host, asked once at the start."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import urllib.parse
from pathlib import Path
from typing import Final

from gateway.settings import Settings
from sandbox.native.probe import resolves_localhost, room_for_sandboxes

MIB: Final = 1 << 20
SHARE_FOR_SANDBOXES: Final = 0.8
STEMS: Final = 4  #: kept ready for each runtime in use
MOST_STEMS: Final = 16  #: where it has many cold starts
LIGHT_STEMS: Final = 32  #: kept ready of those that take little, where there is memory
SHARE_FOR_STEMS: Final = 1 / 128  #: of the memory budget, for each kind of those
LIGHT_STEM_BYTES: Final = 4 * MIB  #: a Python stem that has rehearsed
_NO_MEMORY_KNOWN: Final = 1024 * MIB


def memory_budget_bytes(settings: Settings) -> int:
    """What all sandboxes together may use: what was set, else a share of what is available now, here or in our cgroup."""
    if settings.memory_budget_mb is not None:
        return settings.memory_budget_mb * MIB
    limits = [limit for limit in (_available_bytes(), _cgroup_left_bytes()) if limit is not None]
    return int(min(limits, default=_NO_MEMORY_KNOWN) * SHARE_FOR_SANDBOXES)


def stems(settings: Settings, memory_bytes: int, *, light: bool) -> tuple[int, int]:
    """How many of a kind are kept ready at least and at most: what was set, else more of those that take little."""
    least, most = settings.stems_min, settings.stems_max
    if least is None:
        least = STEMS if not light else min(max(STEMS, int(memory_bytes * SHARE_FOR_STEMS / LIGHT_STEM_BYTES)), LIGHT_STEMS)
    if most is None:
        most = max(MOST_STEMS, least)
    return min(least, most), most


def max_sandboxes(settings: Settings) -> int:
    """What was set, but no more than this process has descriptors for: without any it could not even refuse a client."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return settings.max_sandboxes if soft == resource.RLIM_INFINITY else min(settings.max_sandboxes, room_for_sandboxes(soft))


def _available_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _cgroup_left_bytes() -> int | None:
    """What is left of the memory limit of the container that we are in, if it is one: /sys/fs/cgroup is its own group there."""
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            most, now = (Path("/sys/fs/cgroup", name).read_text().strip() for name in (limit, used))
        except OSError:
            continue
        if most.isdigit() and int(most) < 1 << 50:
            return max(int(most) - int(now), 0)
    return None


class Urls:
    """How function URLs are written: by host (a label each below `domain`) or by path, from `base`."""

    def __init__(self, *, base: str, by_host: bool, region: str) -> None:
        parts = urllib.parse.urlsplit(base)
        host = parts.hostname or "localhost"
        self.base = base
        self.by_host = by_host
        self.domain = "localhost" if _is_loopback(host) else host
        self._region = region
        self._scheme = parts.scheme
        self._port = f":{parts.port}" if parts.port else ""

    def url(self, url_id: str) -> str:
        """The FunctionUrl of `url_id`, with the slash at the end that AWS gives it."""
        if self.by_host:
            return f"{self._scheme}://{url_id}.lambda-url.{self._region}.{self.domain}{self._port}/"
        return f"{self.base}/_urls/{url_id}/"


async def urls(settings: Settings, endpoint: str) -> Urls:
    """By the settings; ``auto`` is by host where nothing but this machine's resolver has to know the names, and it does."""
    by_host = settings.url_style == "host"
    if settings.url_style == "auto":
        by_host = settings.url_base is None and settings.loopback and await asyncio.to_thread(resolves_localhost)
    return Urls(base=settings.url_base or endpoint, by_host=by_host, region=settings.region)


def names(settings: Settings) -> frozenset[str] | None:
    """Host names beside localhost by which clients reach this gateway; None where it listens to more than this machine, which may
    call it anything."""
    if not settings.loopback:
        return None
    base = urllib.parse.urlsplit(settings.url_base or "").hostname
    return frozenset((base,) if base else ())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def endpoint(host: str, port: int) -> str:
    """The address to tell people: a wildcard is reached by loopback here."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"
