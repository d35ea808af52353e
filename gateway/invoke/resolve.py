"""From what a caller named to the version that runs. [P]"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway import arn
from gateway.errors import ResourceConflictException
from gateway.records import LATEST, Function, FunctionVersion

#: An inactive function is one that AWS has put away and has to bring back; here it is as good as an active one.
INVOCABLE: Final = frozenset({"Active", "Inactive"})


def resolve(
    function: Function | None, name: str, qualifier: str | None, *, region: str, account_id: str, random: Callable[[], float]
) -> FunctionVersion:
    """The version that `qualifier` (None, ``$LATEST``, a version or an alias) means for this one invocation.

    `random` gives a number in [0, 1) and is asked only where an alias has a second version. Raises
    ResourceNotFoundException, and ResourceConflictException where the version's state does not let it run yet, or ever.
    """
    if function is None:
        raise arn.not_found(region, account_id, name, qualifier)
    version = function.versions.get(LATEST if qualifier is None else qualifier)
    if version is None:
        alias = function.aliases.get(qualifier or LATEST)
        if alias is None:
            raise arn.not_found(region, account_id, name, qualifier)
        if alias.former is not None:  # what it points to now is not provisioned yet
            alias = alias.former
        chosen = alias.version
        for other, weight in alias.weights.items():  # at most one
            if random() < weight:
                chosen = other
        version = function.versions.get(chosen)
        if version is None:
            raise arn.not_found(region, account_id, name, chosen)
    if version.state not in INVOCABLE:
        raise ResourceConflictException(
            f"The operation cannot be performed at this time. The function is currently in the following state: {version.state}"
        )
    return version
