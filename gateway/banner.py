"""What `lambent up` says once it can serve, and the status object of ``GET /_lambent/status``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import TextIO

_WARNING = """
  ###  NO ISOLATION: functions run as plain processes, with every right of this user.  ###
  ###  Run only code that you would run yourself; start with sudo for real sandboxes.  ###
"""


def banner(
    *,
    version: str,
    endpoint: str,
    usual: bool,
    region: str,
    driver: str,
    isolation: str,
    isolated: bool,
    runs_as: str | None,
    data_dir: str,
    to: TextIO,
) -> str:
    """Endpoint, driver, isolation, data, and lines to copy. Bold only where `to` is a terminal that wants it.

    `usual` says that the commands look for Lambent at this endpoint by themselves.
    """
    bold, plain = ("\033[1m", "\033[0m") if to.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    rows = [
        ("endpoint", f"{bold}{endpoint}{plain}"),
        ("driver", driver if isolated else f"{driver}, plain processes"),
        ("isolation", isolation if isolated else f"{bold}none{plain}: {isolation}"),
        ("gateway", f"runs as {runs_as}" if runs_as else ""),
        ("data", data_dir),
    ]
    lines = "\n".join(f"    {name:10} {value}" for name, value in rows if value)
    command = "lambent" if shutil.which("lambent") else shlex.quote(os.path.join(os.path.dirname(sys.executable), "lambent"))
    export = "" if usual else f"    export LAMBENT_ENDPOINT={endpoint}\n"
    return f"""
  {bold}Lambent {version}{plain} is up.
{"" if isolated else _WARNING}
{lines}

  Try it:
{export}    {command} deploy DIR
    {command} list
    aws lambda list-functions --no-sign-request --region {region} --endpoint-url {endpoint}

"""
