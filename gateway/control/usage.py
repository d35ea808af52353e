"""What the account uses and how much it may: code storage, and concurrency with the parts of it that functions reserve."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

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
        self._reserving = asyncio.Lock()

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
                "UnreservedConcurrentExecutions": self._concurrency_limit - self._reserved(),
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
            left = self._concurrency_limit - self._reserved(but=name) - wanted
            if left < UNRESERVED_MIN and wanted > (function.reserved_concurrency or 0):
                raise InvalidParameterValueException(
                    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                    f"below its minimum value of [{UNRESERVED_MIN}].",
                    Type=None,
                )
            return dataclasses.replace(function, reserved_concurrency=wanted), None

        async with self._reserving:  # the sum is over all functions: two at once would both find room for themselves
            await self._changes.change(name, edit)
        return {"ReservedConcurrentExecutions": wanted}

    async def unreserve(self, call: Call) -> None:
        name = self._names.name(call.params)

        def edit(function: Function | None) -> tuple[Function, None]:
            return dataclasses.replace(self._names.existing(function, name, LATEST), reserved_concurrency=None), None

        await self._changes.change(name, edit)

    def _reserved(self, but: str | None = None) -> int:
        return sum(function.reserved_concurrency or 0 for function in self._catalog.functions() if function.name != but)

    def _code_bytes(self) -> int:
        of_layers = sum(version.code_size_bytes for layer in self._layers.layers() for version in layer.versions.values())
        return of_layers + sum(
            version.code_size_bytes for function in self._catalog.functions() for version in function.versions.values()
        )
