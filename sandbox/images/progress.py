"""How far a pull is, from what the Docker Engine tells of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_HERE: Final = frozenset({"Verifying Checksum", "Download complete", "Extracting", "Pull complete"})


class Progress:
    """One pull. The size of a layer is known when its download begins, so the whole grows at first."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def told(self, line: Mapping[str, Any]) -> tuple[int, int] | None:
        """Bytes that are here and bytes in all, as far as known; None where the line changes nothing."""
        layer, status = str(line.get("id")), line.get("status")
        detail = line.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._layers[layer] = int(detail.get("current") or 0), int(detail["total"])
        elif status in _HERE and layer in self._layers:
            self._layers[layer] = self._layers[layer][1], self._layers[layer][1]
        else:
            return None
        return sum(here for here, _ in self._layers.values()), sum(whole for _, whole in self._layers.values())
