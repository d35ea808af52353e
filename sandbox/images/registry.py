"""Credentials for registries, from where `docker login` keeps them: ~/.docker/config.json and its credential helpers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import re
from pathlib import Path
from typing import Any, Final

HUB: Final = "https://index.docker.io/v1/"
_HELPER: Final = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_S: Final = 10.0


def registry(name: str) -> str:
    """The registry of an image's name, as Docker's configuration calls it."""
    first, slash, _ = name.partition("/")
    return first if slash and (first == "localhost" or any(mark in first for mark in ".:")) else HUB


async def credentials(name: str, path: Path | None = None) -> dict[str, str] | None:
    """What the engine is to show the registry of that image; None where nobody has logged in."""
    directory = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        config: dict[str, Any] = json.loads((path or directory / "config.json").read_text())
    except (OSError, ValueError):
        return None
    server = registry(name)
    helper = (config.get("credHelpers") or {}).get(server) or config.get("credsStore")
    if helper and _HELPER.fullmatch(str(helper)):
        return await _asked(str(helper), server)
    entry = (config.get("auths") or {}).get(server) or {}
    if entry.get("identitytoken"):
        return {"identitytoken": str(entry["identitytoken"]), "serveraddress": server}
    try:
        user, colon, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"username": user, "password": password, "serveraddress": server} if colon else None


async def _asked(helper: str, server: str) -> dict[str, str] | None:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(f"docker-credential-{helper}", "get", stdin=pipe, stdout=pipe, stderr=pipe)
        async with asyncio.timeout(_HELPER_S):
            said, _ = await process.communicate(server.encode())
        found = json.loads(said)
    except (OSError, ValueError, TimeoutError):
        return None
    if found.get("Username") == "<token>":
        return {"identitytoken": str(found["Secret"]), "serveraddress": server}
    return {"username": str(found.get("Username")), "password": str(found.get("Secret")), "serveraddress": server}
