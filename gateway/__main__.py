"""`lambent`, and the same as ``python -m gateway``."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """The command line. Ctrl-C while it is being imported ends it, as later, without a traceback."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gateway.cli.main import main as group

    signal.signal(signal.SIGINT, handler)
    group()
    raise AssertionError("a command ends the process")


if __name__ == "__main__":
    main()
