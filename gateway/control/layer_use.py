"""The layers of a function: which it may have, and one tree of all of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from gateway.control.archive import UNZIPPED_MAX_BYTES
from gateway.control.code import CodeStore
from gateway.control.layer_names import LayerNames
from gateway.errors import InvalidParameterValueException
from gateway.records import UsedLayer

LAYERS_MAX: Final = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """The layers that a call asks for, checked; `opt_key` is the tree of all of them in the code store."""

    layers: tuple[UsedLayer, ...]
    opt_key: str


class LayerUse:
    """Looks up, checks and merges the layers that a function asks for."""

    def __init__(self, *, names: LayerNames, code: CodeStore) -> None:
        self._names = names
        self._code = code

    @contextlib.asynccontextmanager
    async def of(self, arns: Sequence[str]) -> AsyncIterator[Chosen]:
        """What Layers of a call means; the tree stays in the code store until the block ends, and after that with its functions.

        Raises InvalidParameterValueException as AWS does. Texts recorded, but for that of the size, which users have quoted.
        """
        if len(arns) > LAYERS_MAX:
            raise InvalidParameterValueException(f"Cannot reference more than {LAYERS_MAX} layers.")
        found = []
        seen: dict[str, str] = {}
        for arn in arns:
            version = self._names.used(arn)
            layer = arn.rpartition(":")[0]
            if layer in seen:
                raise InvalidParameterValueException(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. "
                    f"{seen[layer]} and {arn} are versions of the same layer."
                )
            seen[layer] = arn
            found.append(version)
        if sum(version.unzipped_bytes for version in found) > UNZIPPED_MAX_BYTES:
            raise InvalidParameterValueException(f"Layers consume more than the available size of {UNZIPPED_MAX_BYTES} bytes")
        async with self._code.merged([version.code_key for version in found]) as opt_key:
            used = (
                UsedLayer(arn=arn, code_size_bytes=version.code_size_bytes, unzipped_bytes=version.unzipped_bytes)
                for arn, version in zip(arns, found, strict=True)
            )
            yield Chosen(tuple(used), opt_key)


def check_size(code_bytes: int, layers: Iterable[UsedLayer]) -> None:
    """Checks that unzipped a function and its layers are not too large together. The text is as users have quoted it."""
    total = code_bytes + sum(layer.unzipped_bytes for layer in layers)
    if total > UNZIPPED_MAX_BYTES:
        raise InvalidParameterValueException(
            f"Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_MAX_BYTES} bytes. "
            f"The actual size is {total} bytes."
        )
