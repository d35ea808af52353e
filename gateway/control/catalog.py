"""Every function as the hot path sees it: in memory, one lookup away, never half changed.

Records are immutable, so a change is one assignment: whoever resolved the old record finishes on it. Use cases call
`replace` after the store has committed, so what is seen here would survive a `kill -9`. Everything happens in the event loop's
thread and nothing awaits, hence no lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from gateway.records import Function, UrlConfig

Changed = Callable[[Function | None, Function | None], None]

_log = logging.getLogger(__name__)


class Catalog:
    """The functions of this gateway, by name and by the id of each function URL.

    `functions` is what the store holds at start.
    """

    __slots__ = ("_functions", "_names", "_subscribers", "_urls")

    def __init__(self, functions: Iterable[Function] = ()) -> None:
        self._functions: dict[str, Function] = {}
        self._urls: dict[str, tuple[Function, UrlConfig]] = {}
        self._names: list[str] | None = None  # in order; None: to be sorted again
        self._subscribers: list[Changed] = []
        for function in functions:
            self._put(function.name, function)

    def __len__(self) -> int:
        return len(self._functions)

    def __repr__(self) -> str:
        return f"<Catalog {len(self._functions)} functions, {len(self._urls)} urls>"

    def get(self, function_name: str) -> Function | None:
        return self._functions.get(function_name)

    def url(self, url_id: str) -> tuple[Function, UrlConfig] | None:
        return self._urls.get(url_id)

    def functions(self) -> Sequence[Function]:
        """All functions, by name. Not for the hot path."""
        if self._names is None:
            self._names = sorted(self._functions)
        return [self._functions[name] for name in self._names]

    def subscribe(self, changed: Changed) -> None:
        """Have `changed(old, new)` called in the event loop after each committed change; None where there is no old or new.

        It is called at once, as for a new function, for every function that is there already.
        """
        self._subscribers.append(changed)
        for name, function in self._functions.items():
            _tell(changed, name, None, function)

    def replace(self, name: str, new: Function | None) -> None:
        """Put `new` in the place of what `name` was, or remove it, and tell everyone. To be called after the store's commit."""
        old = self._functions.get(name)
        self._put(name, new)
        for changed in self._subscribers:
            _tell(changed, name, old, new)

    def _put(self, name: str, new: Function | None) -> None:
        # atomic: no await
        old = self._functions.get(name)
        if old is not None:
            for url in old.urls.values():
                self._urls.pop(url.url_id, None)
        if (old is None) is not (new is None):
            self._names = None
        if new is None:
            self._functions.pop(name, None)
            return
        self._functions[name] = new
        for url in new.urls.values():
            self._urls[url.url_id] = (new, url)


def _tell(changed: Changed, name: str, old: Function | None, new: Function | None) -> None:
    """The change is committed: one listener's fault must hide it from no other, and must not keep a gateway from starting."""
    try:
        changed(old, new)
    except Exception:
        _log.exception("a listener failed on the change of function %s", name)
