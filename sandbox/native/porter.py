"""Starts `guest/porter.py` on the host: a fresh interpreter that finds the guest's files where the sandboxes will have them.

Run as a program (``python -m sandbox.native.porter JSON``) by the spawner. The guest's package is not imported from ours: a
copy of this process must need nothing of the host's tree, and the guest's modules import each other flat.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from sandbox.native.rootfs import GUEST, become, begin

_SCRIPTS = {
    "lambent_porter.py": "import lambent_guest.porter\nlambent_guest.porter.main()\n",
    "lambent_stem.py": "import lambent_guest.stem\nlambent_guest.stem.main()\n",
}


def install(directory: Path) -> None:
    """What stands at /var/runtime in a container: the runtime and the guest's package, in a new directory."""
    shutil.copytree(
        GUEST, directory / "lambent_guest", ignore=shutil.ignore_patterns("__pycache__", "python", "node", "DESIGN.md")
    )
    shutil.copytree(GUEST / "node", directory / "lambent_node", ignore=shutil.ignore_patterns("DESIGN.md"))
    for path in sorted((GUEST / "python").glob("lambent_*.py")):
        shutil.copyfile(path, directory / path.name)
    for name, text in _SCRIPTS.items():
        (directory / name).write_text(text)


def main() -> None:
    arguments = begin()
    script = os.path.join(arguments["runtime"], "lambent_porter.py")
    # Isolated from the environment, and from packages of the host: a module of theirs must not be part of every init.
    become(arguments, [sys.executable, "-E", "-S", script, arguments["root"]], {"LC_CTYPE": "C.UTF-8"})


if __name__ == "__main__":
    main()
