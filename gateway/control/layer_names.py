"""Which layer or layer version a call means, and the layers that there are, in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gateway.errors import AccessDeniedException, InvalidParameterValueException, ResourceNotFoundException
from gateway.records import Layer, LayerVersion

_ARN: Final = re.compile(
    r"arn:(?:aws[a-zA-Z-]*)?:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:(?P<name>[a-zA-Z0-9\-_]+)(?::(?P<version>\d+))?",
    re.ASCII,
)


class LayerCatalog:
    """The layers of this gateway, by name; see `Catalog` for what its methods promise. `changed` is told of every change."""

    def __init__(self, layers: Iterable[Layer], changed: Callable[[Layer | None, Layer | None], None]) -> None:
        self._layers = {layer.name: layer for layer in layers}
        self._changed = changed
        for layer in self._layers.values():
            changed(None, layer)

    def get(self, name: str) -> Layer | None:
        return self._layers.get(name)

    def layers(self) -> Sequence[Layer]:
        """All layers, by name, those without versions too."""
        return [self._layers[name] for name in sorted(self._layers)]

    def replace(self, name: str, new: Layer | None) -> None:
        assert new is not None  # a layer stays when its versions go
        old = self._layers.get(name)
        self._layers[name] = new
        self._changed(old, new)


class LayerNames:
    """Names and ARNs of the layers of one account in one region; there are no others."""

    def __init__(self, *, account_id: str, region: str, catalog: LayerCatalog) -> None:
        self._account_id = account_id
        self._region = region
        self.catalog = catalog

    def arn(self, name: str) -> str:
        return f"arn:aws:lambda:{self._region}:{self._account_id}:layer:{name}"

    def name(self, given: str, action: str) -> str:
        """The name in LayerName, which may be an ARN. Raises AccessDeniedException for a layer of another account or region."""
        parts = _ARN.fullmatch(given)
        if parts is None:
            return given
        if (parts["region"], parts["account"]) != (self._region, self._account_id):
            raise self._denied(given, action)
        return parts["name"]

    def parse_version(self, arn: str, action: str) -> tuple[str, int]:
        """Name and number in the ARN of a version.

        Raises AccessDeniedException for another account or region, ResourceNotFoundException for one of AWS's own.
        """
        parts = _ARN.fullmatch(arn)
        if parts is None or parts["version"] is None:
            raise ResourceNotFoundException("The resource you requested does not exist.")
        if (parts["region"], parts["account"]) != (self._region, self._account_id):
            raise self._denied(arn, action)
        return parts["name"], int(parts["version"])

    def version(self, name: str, number: int) -> LayerVersion | None:
        layer = self.catalog.get(name)
        return layer.versions.get(number) if layer else None

    def find(self, arn: str) -> LayerVersion | None:
        """The version with that ARN, which a function got when there was one; None where there is none any more, as after the
        account or the region of this gateway was set to another one."""
        parts = _ARN.fullmatch(arn)
        if parts is None or parts["version"] is None or (parts["region"], parts["account"]) != (self._region, self._account_id):
            return None
        return self.version(parts["name"], int(parts["version"]))

    def used(self, arn: str) -> LayerVersion:
        """The version that a function asks for by its ARN. Texts recorded.

        Raises InvalidParameterValueException where there is none, AccessDeniedException for one of another account.
        """
        parts = _ARN.fullmatch(arn)
        if parts is not None and parts["region"] != self._region:
            raise InvalidParameterValueException(
                f"Layers are not in the same region as the function. Layers are expected to be in region {self._region}."
            )
        if parts is not None and parts["account"] != self._account_id:
            raise self._denied(arn, "lambda:GetLayerVersion")
        found = None
        if parts is not None and parts["version"] is not None:
            found = self.version(parts["name"], int(parts["version"]))
        if found is None:
            raise InvalidParameterValueException(f"Layer version {arn} does not exist.")
        return found

    def _denied(self, arn: str, action: str) -> AccessDeniedException:
        """Nobody else's layers are here, and AWS does not say which layers others have."""
        return AccessDeniedException(
            f"User: arn:aws:iam::{self._account_id}:root is not authorized to perform: {action} on resource: {arn} "
            f"because no resource-based policy allows the {action} action"
        )
