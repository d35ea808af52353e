"""Which function, version or alias a call means, and what it is answered where there is none. [P]"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

from gateway import arn
from gateway.arn import FunctionRef
from gateway.control.catalog import Catalog
from gateway.errors import InvalidParameterValueException, ResourceNotFoundException
from gateway.records import LATEST, Function, FunctionVersion

_ALIAS: Final = re.compile(r"(?!\d+$)[a-zA-Z0-9\-_]+", re.ASCII)
_FUNCTIONS_ONLY: Final = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)


def is_alias(qualifier: str) -> bool:
    """Whether this can only be the name of an alias: no number, not ``$LATEST``."""
    return _ALIAS.fullmatch(qualifier) is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """The names of one account in one region, and the functions that have them."""

    account_id: str
    region: str
    catalog: Catalog

    def ref(self, params: Mapping[str, Any]) -> FunctionRef:
        """FunctionName and Qualifier of a call. Raises what `arn.parse` does."""
        return arn.parse(params["FunctionName"], params.get("Qualifier"), region=self.region, account_id=self.account_id)

    def name(self, params: Mapping[str, Any]) -> str:
        """FunctionName of a call that is about a whole function. Raises InvalidParameterValueException for another qualifier."""
        found = self.ref(params)
        if found.qualifier not in (None, LATEST):
            raise InvalidParameterValueException(_FUNCTIONS_ONLY)
        return found.name

    def arn(self, name: str, qualifier: str | None = None) -> str:
        return arn.function(self.region, self.account_id, name, qualifier)

    def no_function(self, name: str, qualifier: str | None = None) -> ResourceNotFoundException:
        return arn.not_found(self.region, self.account_id, name, qualifier)

    def no_alias(self, name: str, alias: str) -> ResourceNotFoundException:
        return ResourceNotFoundException(f"Cannot find alias arn: {self.arn(name, alias)}")

    def existing(self, function: Function | None, name: str, qualifier: str | None = None) -> Function:
        """The function, or the error that there is none of that name."""
        if function is None:
            raise self.no_function(name, qualifier)
        return function

    def version(self, function: Function | None, ref: FunctionRef) -> FunctionVersion:
        """The version that a reference means, an alias's main one. Raises ResourceNotFoundException."""
        if function is not None:
            if ref.qualifier is None:
                return function.latest
            alias = function.aliases.get(ref.qualifier)
            found = function.versions.get(alias.version if alias else ref.qualifier)
            if found is not None:
                return found
        raise self.no_function(*ref)
