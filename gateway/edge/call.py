"""A request that may run a function, as the routes that carry load see it, whichever way it came."""

from __future__ import annotations

from typing import NamedTuple

from gateway.invocation import Invocation
from gateway.records import Cors


class Asked(NamedTuple):
    """A request without its target and its body. `headers` are folded, see `url_event.folded`."""

    method: str
    headers: dict[str, str]
    protocol: str  #: ``HTTP/1.1``
    peer: str
    port: str
    request_id: str


class Call(NamedTuple):
    """What it comes to: an invocation, and what else its answer depends on."""

    invocation: Invocation
    trace: str
    cors: Cors | None = None
    origin: str | None = None
