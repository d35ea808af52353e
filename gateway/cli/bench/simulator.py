"""How quickly the simulator goes. It belongs to the load tests: a checkout has them, an installation has not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from gateway.cli.bench.report import Figure

ROOT: Final = Path(__file__).parents[3]


def figures() -> list[Figure]:
    """Invocations for each second of a processor; none without the load tests."""
    if (ROOT / "loadtests" / "simulation").is_dir() and str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    try:
        from loadtests.simulation import speed
    except ImportError:
        return []
    found = speed.measure()
    return [
        Figure(name="simulator, through the core alone", value=found.core, unit="/s", least=30_000),
        Figure(name="simulator, through core and pool", value=found.pool, unit="/s", least=8_000),
    ]
