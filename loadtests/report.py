"""What a run found, as a line, a page and JSON."""

from __future__ import annotations

from typing import Any, Final

from loadtests.open_loop import Outcome

SHARES: Final = (0.5, 0.9, 0.99, 0.999)
HEADING: Final = (
    f"{'rate/s':>9} {'right/s':>9} {'failed':>7} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9} {'lag p99':>8} {'busy':>5}"
)
_LATE_MS: Final = 2.0
BUSY: Final = 0.9  #: of a core, from where on the generator is a limit


def line(outcome: Outcome) -> str:
    """One row under HEADING."""
    return (
        f"{outcome.rate_per_s:9,.0f} {outcome.right_per_s:9,.0f} {outcome.failed_share:7.2%} {outcome.latency.ms(0.5):9.2f} "
        f"{outcome.latency.ms(0.99):9.2f} {outcome.latency.max_ms:9.2f} {outcome.lag.ms(0.99):8.2f} {outcome.busy:5.0%}"
    )


def page(outcome: Outcome) -> str:
    """All of it."""
    lines = [HEADING, line(outcome), ""]
    lines += [f"  {share * 100:5.1f} % within {outcome.latency.ms(share):10.3f} ms" for share in SHARES]
    lines += [f"  {count} × {reason}" for reason, count in outcome.failures.most_common()]
    return "\n".join([*lines, *warnings(outcome)])


def warnings(outcome: Outcome) -> list[str]:
    """What to know before these figures are believed."""
    found = []
    if outcome.busy > BUSY:
        found.append(f"The generator used {outcome.busy:.0%} of a core: it was the limit itself, or near it.")
    if outcome.lag.ms(0.99) > _LATE_MS:
        found.append(f"The generator itself was up to {outcome.lag.ms(0.99):.1f} ms (p99) late, which the latencies include.")
    return found


def values(outcome: Outcome) -> dict[str, Any]:
    """For JSON."""
    return {
        "rate_per_s": outcome.rate_per_s,
        "requests": outcome.requests,
        "right": outcome.right,
        "right_per_s": outcome.right_per_s,
        "failures": dict(outcome.failures),
        "latency_ms": {f"p{share * 100:g}": outcome.latency.ms(share) for share in SHARES} | {"max": outcome.latency.max_ms},
        "generator": {"lag_p99_ms": outcome.lag.ms(0.99), "lag_max_ms": outcome.lag.max_ms, "busy": outcome.busy},
    }
