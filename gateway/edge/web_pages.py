"""What web pages may not do: anything but call function URLs, since nothing authenticates who asks yet.

Any page can send requests to a port of its visitor's machine. Three things keep it from the Lambda API, logs and metrics:

- What carries ``Origin`` is refused, whatever it says: browsers send it with every request that is not a plain GET, SDKs and
  command lines never do.
- So is what a page of this very origin asks (``Sec-Fetch-Site: same-origin``, which tells of its plain GETs): where function URLs
  are called by path, what a function answers is such a page.
- A page can make its own host's name mean 127.0.0.1 once it is loaded (DNS rebinding); the browser then takes this gateway for
  the page's own server and lets it read all answers. But it says the name, in ``Host``. So where the gateway listens on loopback,
  it is served by addresses, ``localhost`` and the names that it was told: those nobody can rebind. Where --insecure has it
  listen elsewhere it may have any name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Final

from gateway.errors import AccessDeniedException

_ORIGIN: Final = "Origin"
_SITE: Final = "Sec-Fetch-Site"
_BRACKETED: Final = re.compile(r"\[([^]]*)\]")
_KNOWN_MAX: Final = 1000


class WebPages:
    """`names` are host names beside ``localhost``, in lower case, by which clients reach this gateway; None: whatever name.

    `known` has values of Host that were looked at already and are good.
    """

    __slots__ = ("_names", "known")

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names
        self.known: set[str] = set()

    def check(self, headers: Mapping[str, str], host: str) -> None:
        """Raises AccessDeniedException for what a web page sends, or may. `headers` are found in any case of their names."""
        origin = headers.get(_ORIGIN)
        if origin is not None or headers.get(_SITE) == "same-origin":
            raise AccessDeniedException(
                f"Requests that web pages{f' ({origin[:100]})' if origin else ''} send to the Lambda API are refused, because "
                "they are not authenticated yet. Web pages may call function URLs."
            )
        if host not in self.known and not self.admits(host):
            raise AccessDeniedException(
                f"The Lambda API is not served by the host name {host[:100]}, which a web page may have made mean this machine. "
                "Call it by an address or localhost, or start it with --url-base and the URL that has this name."
            )

    def admits(self, host: str) -> bool:
        """Whether no web page can have made up this value of Host. It is remembered, for a look into `known`."""
        if not self._is_ours(host):
            return False
        if len(self.known) < _KNOWN_MAX:
            self.known.add(host)
        return True

    def _is_ours(self, host: str) -> bool:
        if self._names is None or not host:  # no browser leaves it out
            return True
        bracketed = _BRACKETED.match(host)
        name = bracketed[1] if bracketed else host.partition(":")[0].removesuffix(".").lower()
        if name == "localhost" or name.endswith(".localhost") or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
