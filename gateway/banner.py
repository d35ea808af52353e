"""What `lambent up` says once it can serve, and the status object of ``GET /_lambent/status``."""

from __future__ import annotations

import os
from typing import TextIO

_WARNING = """
  ###  NO ISOLATION: functions run as plain processes, with every right of this user.  ###
  ###  Run only code that you would run yourself; start with sudo for real sandboxes.  ###
"""


def banner(
    *, version: str, endpoint: str, driver: str, isolation: str, isolated: bool, runs_as: str | None, data_dir: str, to: TextIO
) -> str:
    """Endpoint, driver, isolation, data, and three lines to copy. Bold only where `to` is a terminal that wants it."""
    bold, plain = ("\033[1m", "\033[0m") if to.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    rows = [
        ("endpoint", f"{bold}{endpoint}{plain}"),
        ("driver", driver if isolated else f"{driver}, plain processes"),
        ("isolation", isolation if isolated else f"{bold}none{plain}: {isolation}"),
        ("gateway", f"runs as {runs_as}" if runs_as else ""),
        ("data", data_dir),
    ]
    lines = "\n".join(f"    {name:10} {value}" for name, value in rows if value)
    return f"""
  {bold}Lambent {version}{plain} is up.
{"" if isolated else _WARNING}
{lines}

  Try it:
    lambent deploy DIR
    lambent list
    aws lambda list-functions --region us-east-1 --endpoint-url {endpoint}

"""
