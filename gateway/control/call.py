"""What a use case is called with, whatever the operation. [P]"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation, parsed and checked against the service model.

    `params` has AWS's member names and Python's values: blobs are bytes, timestamps seconds since the epoch, and what the caller
    did not give is absent. `endpoint` is how the caller reached us, ``http://host:port``, for addresses in answers.
    """

    params: Mapping[str, Any]
    endpoint: str


#: An operation: raises an ApiError, or returns members of its output under AWS's names; those that are None are left out.
Rule = Callable[[Call], Awaitable[Mapping[str, Any] | None]]
