"""Function URLs: their configuration. What they answer is the edge's business. Texts are recorded from AWS."""

from __future__ import annotations

import dataclasses
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.clock import Clock
from gateway.control import describe
from gateway.control.call import Call, Rule
from gateway.control.changes import Changes
from gateway.control.names import Names
from gateway.control.paging import page
from gateway.errors import ResourceConflictException, ResourceNotFoundException
from gateway.records import LATEST, Cors, Function, UrlConfig

_LETTERS: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 32


class Urls:
    """Use cases of function URLs. `url_for` makes the address that clients use of a URL's id."""

    def __init__(self, *, names: Names, changes: Changes, clock: Clock, url_for: Callable[[str], str]) -> None:
        self._names = names
        self._changes = changes
        self._clock = clock
        self._url_for = url_for

    def rules(self) -> Mapping[str, Rule]:
        return {
            "CreateFunctionUrlConfig": self.create,
            "GetFunctionUrlConfig": self.get,
            "ListFunctionUrlConfigs": self.list,
            "UpdateFunctionUrlConfig": self.update,
            "DeleteFunctionUrlConfig": self.delete,
        }

    async def create(self, call: Call) -> Mapping[str, Any]:
        name, qualifier = self._which(call.params)
        mode = _mode(call.params)

        def edit(function: Function | None) -> tuple[Function, UrlConfig]:
            function = _existing(function)
            if qualifier in function.urls:
                raise ResourceConflictException(
                    f"Failed to create function url config for [functionArn = {self._names.arn(name, qualifier)}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function"
                )
            if qualifier is not None and qualifier not in function.aliases:
                raise ResourceNotFoundException("Function does not exist")
            now = describe.created(self._clock.wall())
            url = UrlConfig(
                url_id="".join(secrets.choice(_LETTERS) for _ in range(_ID_LENGTH)),
                function_name=name,
                qualifier=qualifier,
                auth_type=call.params["AuthType"],
                invoke_mode=mode or "BUFFERED",
                cors=_cors(call.params.get("Cors")),
                creation_time=now,
                last_modified_time=now,
            )
            return _with(function, url), url

        url = await self._changes.change(name, edit)
        return {**self._described(url), "InvokeMode": mode, "LastModifiedTime": None}

    async def get(self, call: Call) -> Mapping[str, Any]:
        name, qualifier = self._which(call.params)
        function = self._names.catalog.get(name)
        return self._described(_url(function.urls if function else {}, qualifier))

    async def list(self, call: Call) -> Mapping[str, Any]:
        name = self._names.name(call.params)
        function = _existing(self._names.catalog.get(name))
        urls = sorted(function.urls.values(), key=lambda url: url.qualifier or "")
        shown, marker = page(urls, call.params, lambda url: url.qualifier or "")
        return {"FunctionUrlConfigs": [self._described(url) for url in shown], "NextMarker": marker}

    async def update(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        name, qualifier = self._which(params)
        mode = _mode(params)

        def edit(function: Function | None) -> tuple[Function, UrlConfig]:
            function = _existing(function)
            old = _url(function.urls, qualifier)
            url = dataclasses.replace(
                old,
                auth_type=params.get("AuthType", old.auth_type),
                invoke_mode=mode or old.invoke_mode,
                cors=_cors(params["Cors"]) if "Cors" in params else old.cors,
                last_modified_time=describe.created(self._clock.wall()),
            )
            return _with(function, url), url

        url = await self._changes.change(name, edit)
        return {**self._described(url), "InvokeMode": mode}

    async def delete(self, call: Call) -> None:
        name, qualifier = self._which(call.params)

        def edit(function: Function | None) -> tuple[Function, None]:
            function = _existing(function)
            gone = _url(function.urls, qualifier)
            return dataclasses.replace(
                function, urls={key: value for key, value in function.urls.items() if value is not gone}
            ), None

        await self._changes.change(name, edit)

    def _which(self, params: Mapping[str, Any]) -> tuple[str, str | None]:
        """Function and alias; ``$LATEST`` is the function itself."""
        ref = self._names.ref(params)
        return ref.name, None if ref.qualifier == LATEST else ref.qualifier

    def _described(self, url: UrlConfig) -> Mapping[str, Any]:
        return describe.url(url, self._names.arn(url.function_name, url.qualifier), self._url_for(url.url_id))


def _existing(function: Function | None) -> Function:
    if function is None:
        raise ResourceNotFoundException("Function does not exist")
    return function


def _url(urls: Mapping[str | None, UrlConfig], qualifier: str | None) -> UrlConfig:
    found = urls.get(qualifier)
    if found is None:
        raise ResourceNotFoundException("The resource you requested does not exist.")
    return found


def _mode(params: Mapping[str, Any]) -> str | None:
    mode: str | None = params.get("InvokeMode")
    return mode


def _cors(given: Mapping[str, Any] | None) -> Cors | None:
    if not given:
        return None
    return Cors(
        allow_credentials=given.get("AllowCredentials", False),
        allow_headers=tuple(given.get("AllowHeaders", ())),
        allow_methods=tuple(given.get("AllowMethods", ())),
        allow_origins=tuple(given.get("AllowOrigins", ())),
        expose_headers=tuple(given.get("ExposeHeaders", ())),
        max_age_s=given.get("MaxAge"),
    )


def _with(function: Function, url: UrlConfig) -> Function:
    return dataclasses.replace(function, urls={**function.urls, url.qualifier: url})
