"""`lambent`, and the same as ``python -m gateway``."""

from gateway.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
