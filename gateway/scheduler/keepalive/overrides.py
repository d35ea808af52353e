"""What is said for one function, against the policy: tags of the function, so any tool that speaks to Lambda can set them. [P]

`lambent:idle-ttl-s` is how long an idle sandbox is kept, `lambent:min-warm` how many are kept for any time, `lambent:max-warm`
how many idle ones are kept at most. They count for each version by itself. What is kept by `min-warm` goes only when memory is
needed and nothing else is left to go; it is not started before the first call, which is what provisioned concurrency is for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Final

IDLE_TTL: Final = "lambent:idle-ttl-s"
MIN_WARM: Final = "lambent:min-warm"
MAX_WARM: Final = "lambent:max-warm"
PREFIX: Final = "lambent:"
MOST: Final = 100_000
TTL_MOST_S: Final = 31 * 86_400


@dataclasses.dataclass(frozen=True, slots=True)
class Keep:
    """One function's own rules; None and 0 leave it to the policy."""

    idle_ttl_s: float | None = None
    min_warm: int = 0
    max_warm: int | None = None


def keep_of(tags: Mapping[str, str]) -> Keep | None:
    """What a function's tags say; None if they say nothing. Raises ValueError, with a sentence, for what cannot be."""
    said = {key: value for key, value in tags.items() if key.startswith(PREFIX)}
    if not said:
        return None
    for key in said:
        if key not in (IDLE_TTL, MIN_WARM, MAX_WARM):
            raise ValueError(f"there is no tag {key}; there are {IDLE_TTL}, {MIN_WARM} and {MAX_WARM}")
    keep = Keep(
        idle_ttl_s=_number(IDLE_TTL, said[IDLE_TTL], TTL_MOST_S) if IDLE_TTL in said else None,
        min_warm=int(_number(MIN_WARM, said.get(MIN_WARM, "0"), MOST, whole=True)),
        max_warm=int(_number(MAX_WARM, said[MAX_WARM], MOST, whole=True)) if MAX_WARM in said else None,
    )
    if keep.max_warm is not None and keep.min_warm > keep.max_warm:
        raise ValueError(f"{MIN_WARM} is {keep.min_warm}, which is more than {MAX_WARM}, {keep.max_warm}")
    return keep


def _number(key: str, text: str, most: int, *, whole: bool = False) -> float:
    try:
        value = float(int(text) if whole else text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise ValueError(f"{key} is {text[:40]!r}, which is not a {'whole ' if whole else ''}number from 0 to {most}")
    return value
