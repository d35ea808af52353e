"""What a function cannot do here, or is not likely to mean: told in the log when it is made, and to `lambent deploy`.

AWS takes functions whatever they run on, layers whatever they say that they are good for ("used for filtering", its API reference
says of CompatibleRuntimes and CompatibleArchitectures), and images of another architecture than the function's; so does Lambent.
Whoever deploys one shall not have to wait for its first invocation to hear of it.

The driver is told from here which images and foreign runtimes functions need, so that it has them ready, and what else is
unpacked goes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator

from gateway.records import Function, FunctionVersion, LayerVersion
from sandbox.driver import Driver, Support
from sandbox.errors import SandboxError
from sandbox.images.engine import PLATFORMS
from sandbox.native.driver import HOST_ARCHITECTURE
from sandbox.spec import StemKey
from sandbox.tasks import Tasks

_log = logging.getLogger("gateway")


class Advice:
    """To be told of every change of a function. `layer` finds the version of a layer by its ARN; `memory_mb` is what all
    sandboxes together may take."""

    def __init__(self, driver: Driver, layer: Callable[[str], LayerVersion | None], memory_mb: float = math.inf) -> None:
        self._driver = driver
        self._layer = layer
        self._memory_mb = memory_mb
        self._needed: Counter[StemKey] = Counter()  # by versions: what is on disk for them alone
        self._telling: asyncio.Handle | None = None
        self._looks: dict[StemKey, asyncio.Task[Support]] = {}
        self._tasks = Tasks(lambda error: _log.error("looking at a function failed", exc_info=error))

    def function_changed(self, old: Function | None, new: Function | None) -> None:
        before, after = Counter(_keys(old)), Counter(_keys(new))
        if before != after:
            self._needed.update(after)
            self._needed -= before
            self._tell_soon()
        if new is None:
            return
        latest = new.latest
        if old is not None and _asks_for(old.latest) == _asks_for(latest):
            return
        support = self._driver.support(latest.stem)
        if support.available and _is_on_disk(latest.stem):
            self._tasks.start(self._warn(latest), f"look at function {latest.name}")
        else:
            self._say(latest, support)

    async def of(self, version: FunctionVersion) -> list[str]:
        """In sentences; none for most functions."""
        return list(self._sentences(version, await self._look(version.stem)))

    def tell(self) -> None:
        """Let the driver know what functions need, also where they need nothing."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._driver.keep(list(self._needed))

    def _tell_soon(self) -> None:
        """Once for all functions that change in one step, as at the start."""
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_soon(self.tell)

    async def _warn(self, version: FunctionVersion) -> None:
        self._say(version, await self._look(version.stem))

    def _say(self, version: FunctionVersion, support: Support) -> None:
        for sentence in self._sentences(version, support):
            _log.warning("function %s: %s", version.name, sentence)

    def _sentences(self, version: FunctionVersion, support: Support) -> Iterator[str]:
        if not support.available:
            yield f"it cannot run here: {support.detail}"
        if version.memory_mb > self._memory_mb:
            yield (
                f"it cannot run here: it needs {version.memory_mb:,} MB, and all sandboxes together may take "
                f"{self._memory_mb:,.0f} MB (memory_budget_mb)"
            )
        image = version.image.image if version.image is not None else None
        if image is not None and image.architecture not in ("", PLATFORMS[version.architecture]):
            yield (
                f"its image is for {image.architecture}, and the function for {version.architecture}: as on AWS its program "
                "cannot be executed (exec format error)"
            )
        for used in version.layers:
            layer = self._layer(used.arn)
            if layer is None:
                continue
            if layer.runtimes and version.runtime not in layer.runtimes:
                yield f"layer {used.arn} says that it is for {', '.join(layer.runtimes)}, not for {version.runtime}"
            if layer.architectures and version.architecture not in layer.architectures:
                yield f"layer {used.arn} says that it is for {', '.join(layer.architectures)}, not for {version.architecture}"

    async def _look(self, key: StemKey) -> Support:
        """Many functions may ask for the same at once; the driver is asked once."""
        task = self._looks.get(key)
        if task is None:
            task = self._looks[key] = asyncio.get_running_loop().create_task(self._asked(key), name=f"look for {key.name}")
            task.add_done_callback(lambda _: self._looks.pop(key, None))
        return await asyncio.shield(task)

    async def _asked(self, key: StemKey) -> Support:
        try:
            return await self._driver.look(key)
        except SandboxError as error:
            return Support(False, str(error))

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
        for task in self._looks.values():
            task.cancel()
        self._tasks.cancel()
        await self._tasks.join()


def _asks_for(version: FunctionVersion) -> tuple[object, ...]:
    return version.stem, version.layers, version.memory_mb


def _is_on_disk(key: StemKey) -> bool:
    """Whether stems of that kind are made in files that are there for them alone."""
    return bool(key.image) or key.architecture is not HOST_ARCHITECTURE


def _keys(function: Function | None) -> list[StemKey]:
    if function is None:
        return []
    return [key for version in function.versions.values() if _is_on_disk(key := version.stem)]
