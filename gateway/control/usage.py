"""What the account uses and how much it may: code storage, and concurrency with the parts of it that functions reserve."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from gateway.control import provisioning
from gateway.control.archive import UNZIPPED_MAX_BYTES
from gateway.control.call import Call, Rule
from gateway.control.catalog import Catalog
from gateway.control.changes import Changes
from gateway.control.code import ZIPPED_MAX_BYTES
from gateway.control.layer_names import LayerCatalog
from gateway.control.names import Names
from gateway.errors import CodeStorageExceededException, InvalidParameterValueException
from gateway.records import LATEST, Function

CODE_STORAGE_BYTES: Final = 80_530_636_800  #: 75 GB
UNRESERVED_MIN: Final = 100  #: concurrency that cannot be reserved away from the others


class Usage:
    """The account's limits. `concurrency_limit` is how many invocations of all functions may run at once."""

    def __init__(self, *, names: Names, changes: Changes, layers: LayerCatalog, concurrency_limit: int) -> None:
        self._names = names
        self._catalog: Catalog = names.catalog
        self._changes = changes
        self._layers = layers
        self._concurrency_limit = concurrency_limit
        self.reserving = asyncio.Lock()  #: held by whoever changes what functions have set aside: the sum is over all of them

    def contradiction(self) -> str | None:
        """What functions have set aside and the account, with this limit, does not have: it may have had another one before."""
        set_aside = self._set_aside()
        if set_aside <= self._concurrency_limit:
            return None
        return (
            f"functions have {set_aside} of concurrency reserved or provisioned, and concurrency_limit is "
            f"{self._concurrency_limit}: functions without a reservation are throttled"
        )

    def rules(self) -> Mapping[str, Rule]:
        return {
            "GetAccountSettings": self.settings,
            "GetFunctionConcurrency": self.concurrency,
            "PutFunctionConcurrency": self.reserve,
            "DeleteFunctionConcurrency": self.unreserve,
        }

    def room_for(self, size_bytes: int) -> None:
        """Raises CodeStorageExceededException where another package of this size would be too much."""
        if self._code_bytes() + size_bytes > CODE_STORAGE_BYTES:
            raise CodeStorageExceededException

    async def settings(self, call: Call) -> Mapping[str, Any]:
        return {
            "AccountLimit": {
                "TotalCodeSize": CODE_STORAGE_BYTES,
                "CodeSizeUnzipped": UNZIPPED_MAX_BYTES,
                "CodeSizeZipped": ZIPPED_MAX_BYTES,
                "ConcurrentExecutions": self._concurrency_limit,
                "UnreservedConcurrentExecutions": max(0, self._concurrency_limit - self._reserved()),
            },
            "AccountUsage": {"TotalCodeSize": self._code_bytes(), "FunctionCount": len(self._catalog)},
        }

    async def concurrency(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params)
        function = self._names.existing(self._catalog.get(name), name)
        return {"ReservedConcurrentExecutions": function.reserved_concurrency}

    async def reserve(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params)
        wanted = call.params["ReservedConcurrentExecutions"]

        def edit(function: Function | None) -> tuple[Function, None]:
            function = self._names.existing(function, name, LATEST)  # recorded: this one is named with its version
            provisioned = provisioning.total(function)
            if wanted < provisioned:  # recorded, with both spaces
                raise InvalidParameterValueException(
                    f" ReservedConcurrentExecutions  {wanted} should not be lower than function's total provisioned concurrency "
                    f"[{provisioned}].",
                    Type=None,
                )
            left = self._concurrency_limit - self._set_aside(but=name) - wanted
            if left < UNRESERVED_MIN and wanted > (function.reserved_concurrency or 0):
                raise InvalidParameterValueException(
                    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                    f"below its minimum value of [{UNRESERVED_MIN}].",
                    Type=None,
                )
            return dataclasses.replace(function, reserved_concurrency=wanted), None

        async with self.reserving:
            await self._changes.change(name, edit)
        return {"ReservedConcurrentExecutions": wanted}

    async def unreserve(self, call: Call) -> None:
        name = self._names.name(call.params)

        def edit(function: Function | None) -> tuple[Function, None]:
            return dataclasses.replace(self._names.existing(function, name, LATEST), reserved_concurrency=None), None

        await self._changes.change(name, edit)

    def check_provisioned(self, function: Function, wanted: int, others: int) -> None:
        """Whether a function that has `others` provisioned already may have `wanted` more. Texts are recorded from AWS.

        Raises InvalidParameterValueException.
        """
        if function.reserved_concurrency is not None:
            if wanted + others > function.reserved_concurrency:
                raise InvalidParameterValueException(
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
                )
            return
        left = self._concurrency_limit - self._set_aside(but=function.name) - others
        if wanted > left:
            raise InvalidParameterValueException(
                f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{left}].",
                Type=None,
            )
        if left - wanted < UNRESERVED_MIN:
            raise InvalidParameterValueException(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
                f"minimum value of [{UNRESERVED_MIN}].",
                Type=None,
            )

    def _set_aside(self, but: str | None = None) -> int:
        """What all (other) functions have reserved, or provisioned without a reservation."""
        return sum(
            function.reserved_concurrency if function.reserved_concurrency is not None else provisioning.total(function)
            for function in self._catalog.functions()
            if function.name != but
        )

    def _reserved(self) -> int:
        return sum(function.reserved_concurrency or 0 for function in self._catalog.functions())

    def _code_bytes(self) -> int:
        of_layers = sum(version.code_size_bytes for layer in self._layers.layers() for version in layer.versions.values())
        return of_layers + sum(
            version.code_size_bytes for function in self._catalog.functions() for version in function.versions.values()
        )
