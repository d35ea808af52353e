"""The text that Prometheus reads, from prometheus-client's families, in half the time of its own encoders, or a third.

They check every label name of every sample against the grammar: 10 ms of processor for the 2,000 lines of 100 functions, 19 ms in
OpenMetrics, where this takes 6, most of them for the families themselves. The names are constants here. So the library chooses
the format and writes what is above a family's samples (once, since that never changes), and the samples are written here. A
test holds every byte to what the library makes of the same families.

Not for samples with a time, an exemplar or native buckets, of which there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_EOF: Final = b"# EOF\n"
_SPECIAL: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_number: Final[Callable[[float], str]] = floatToGoString
_heads: Final[dict[tuple[str, str], str]] = {}  # by content type and name of the family


class _Bare(Collector):
    """A family without samples."""

    def __init__(self, family: Metric) -> None:
        self._family = Metric(family.name, family.documentation, family.type, family.unit)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        return [self._family]


def page(families: Iterable[Metric], accept: str) -> tuple[str, bytes]:
    """Content type and body, in the format that an ``Accept`` header asks for: OpenMetrics, or the older text format."""
    encode, content_type = choose_encoder(accept)
    parts: list[str] = []
    for family in families:
        head = _heads.get((content_type, family.name))
        if head is None:
            head = _heads[content_type, family.name] = _head(family, encode)
        parts.append(head)
        for sample in family.samples:
            labels = sample.labels
            if labels:
                pairs = ",".join([f'{name}="{value.translate(_SPECIAL)}"' for name, value in sorted(labels.items())])
                parts.append(f"{sample.name}{{{pairs}}} {_number(sample.value)}\n")
            else:
                parts.append(f"{sample.name} {_number(sample.value)}\n")
    body = "".join(parts).encode()
    return content_type, body + _EOF if content_type.startswith("application/openmetrics-text") else body


def _head(family: Metric, encode: Callable[[Collector], bytes]) -> str:
    registry = CollectorRegistry()
    registry.register(_Bare(family))
    return encode(registry).removesuffix(_EOF).decode()
