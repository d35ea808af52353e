"""How many sandboxes of which versions a function's provisioned concurrency means. [P]

A version's own is its own. An alias's is that of the versions that it points to, by their weights; while an alias moves it is
that of both what it was and what it will be, for one serves while the other gets ready.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.records import Alias, Function, Provisioned

UNPUBLISHED: Final = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."


def configurations(function: Function) -> Iterator[tuple[str, Provisioned]]:
    """What was asked for, by qualifier."""
    for version in function.versions.values():
        if version.provisioned is not None:
            yield version.version, version.provisioned
    for alias in function.aliases.values():
        if alias.provisioned is not None:
            yield alias.name, alias.provisioned


def total(function: Function, but: str | None = None) -> int:
    """What was asked for in all, except for one qualifier."""
    return sum(one.executions for qualifier, one in configurations(function) if qualifier != but)


def parts(alias: Alias, executions: int) -> Mapping[str, int]:
    """Sandboxes of the versions that an alias points to: the second gets its share, the first what is left."""
    found = {other: round(executions * weight) for other, weight in alias.weights.items()}
    return {alias.version: executions - sum(found.values()), **found}


def targets(function: Function | None) -> Mapping[str, int]:
    """Sandboxes to be kept ready, by version; versions without are not there."""
    found: Counter[str] = Counter()
    for version in function.versions.values() if function is not None else ():
        if version.provisioned is not None:
            found[version.version] += version.provisioned.executions
    for alias in function.aliases.values() if function is not None else ():
        if alias.provisioned is not None:
            for routing in (alias, alias.former):
                if routing is not None:
                    found.update(parts(routing, alias.provisioned.executions))
    return +found


def moved(old: Alias, new: Alias) -> Alias:
    """`new`, where `old` was: it moves in two steps if it has provisioned concurrency."""
    serving = old.former or old
    if new.provisioned is None or (new.version, new.weights) == (serving.version, serving.weights):
        return dataclasses.replace(new, former=None)
    return dataclasses.replace(new, former=dataclasses.replace(serving, former=None))
