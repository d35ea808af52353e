"""Lists in pages. [P]

A marker is the key of the last item that was shown, so a page is what comes after it: what is created or deleted between two
pages neither repeats nor hides anything else.
"""

from __future__ import annotations

import base64
import binascii
import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from gateway.errors import InvalidParameterValueException

T = TypeVar("T")

PAGE_MAX: Final = 50  #: as AWS: asking for more gives no more


def page(items: Sequence[T], params: Mapping[str, Any], key: Callable[[T], str]) -> tuple[Sequence[T], str | None]:
    """What a call with Marker and MaxItems shows of `items`, which are in the order of their keys, and the next marker.

    Raises InvalidParameterValueException for a marker that is none of ours.
    """
    start = 0
    if marker := params.get("Marker"):
        try:
            after = base64.b64decode(marker.encode(), altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError):
            raise InvalidParameterValueException("Invalid pagination token.") from None
        start = bisect.bisect_right(items, after, key=key)
    end = start + min(params.get("MaxItems", PAGE_MAX), PAGE_MAX)
    shown = items[start:end]
    more = end < len(items)
    return shown, base64.urlsafe_b64encode(key(shown[-1]).encode()).decode() if more else None


def version_key(version: str) -> str:
    """Orders versions: ``$LATEST`` first, then by number."""
    return f"{int(version):012}" if version.isdigit() else ""
