"""`asymvlm COMMAND`: the commands of the package, also as `python -m asymvlm COMMAND`."""

from __future__ import annotations

import sys

from .cli.door import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
