"""What train.py, eval.py and the other commands share: errors in one line, and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from .errors import DataError

USAGE, DATA = 2, 1


def run(command: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Run a command. DataError ends with 1, any other ValueError with 2, each with one line on stderr.

    ASYMVLM_TRACEBACK=1 in the environment shows the traceback instead.
    """
    try:
        command(arguments)
    except ValueError as error:
        if os.environ.get("ASYMVLM_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return DATA if isinstance(error, DataError) else USAGE
    except SystemExit as stop:  # argument parsers leave this way
        return int(stop.code or 0) if not isinstance(stop.code, str) else USAGE
    return 0
