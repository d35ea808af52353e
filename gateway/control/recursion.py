"""What becomes of a loop of invocations: each function's RecursiveLoop, which is Terminate unless somebody says Allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gateway.control.call import Call, Rule
from gateway.control.catalog import Catalog
from gateway.control.changes import Changes
from gateway.control.names import Names
from gateway.records import Function


class Recursion:
    """GetFunctionRecursionConfig and PutFunctionRecursionConfig. What they say is heeded where invocations come in."""

    def __init__(self, *, names: Names, changes: Changes) -> None:
        self._names = names
        self._catalog: Catalog = names.catalog
        self._changes = changes

    def rules(self) -> Mapping[str, Rule]:
        return {"GetFunctionRecursionConfig": self.get, "PutFunctionRecursionConfig": self.put}

    async def get(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params)
        return {"RecursiveLoop": self._names.existing(self._catalog.get(name), name).recursive_loop}

    async def put(self, call: Call) -> Mapping[str, Any]:
        name, wanted = self._names.name(call.params), call.params["RecursiveLoop"]

        def edit(function: Function | None) -> tuple[Function, None]:
            return dataclasses.replace(self._names.existing(function, name), recursive_loop=wanted), None

        await self._changes.change(name, edit)
        return {"RecursiveLoop": wanted}
