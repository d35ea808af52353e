"""Deployment packages that nobody should unpack without looking."""

from __future__ import annotations

import io
import stat
import zipfile

HANDLER = "def handler(event, context):\n    return event\n"


def archive(*entries: tuple[str, str], kind: int = stat.S_IFREG) -> bytes:
    """A zip file whose entries have their names as they are given, and `kind` as what they are."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as opened:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (kind | 0o644) << 16
            opened.writestr(entry, content)
    return found.getvalue()


def good() -> bytes:
    return archive(("app.py", HANDLER))


def damaged() -> bytes:
    """What is stored is not what was."""
    return good().replace(b"    return", b"    rEturn", 1)


def link(leads_to: str) -> bytes:
    return archive(("link", leads_to), kind=stat.S_IFLNK)


def through_a_link(leads_to: str, name: str) -> bytes:
    found = io.BytesIO(link(leads_to))
    with zipfile.ZipFile(found, "a") as opened:
        opened.writestr(f"link/{name}", "evil")
    return found.getvalue()


def bomb(mb: int) -> bytes:
    """So many megabytes of nothing, in a thousandth of that."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened, opened.open("zeros", "w") as entry:
        for _ in range(mb):
            entry.write(bytes(1 << 20))
    return found.getvalue()


def lying_bomb(mb: int) -> bytes:
    """Its headers say ten bytes."""
    honest, size = bomb(mb), (mb << 20).to_bytes(4, "little")
    assert honest.count(size) >= 2
    return honest.replace(size, (10).to_bytes(4, "little"))


def large(mb: int) -> bytes:
    """As large as that, and not compressed."""
    return archive(("large", "x" * (mb << 20)))
