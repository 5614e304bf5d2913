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
        cause = _cause(error)
        print(f"error: {cause}", file=sys.stderr)
        return DATA if isinstance(cause, DataError) else USAGE
    except SystemExit as stop:  # argument parsers leave this way
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _cause(error: BaseException) -> BaseException:
    """What was raised first: parsers wrap what a constructor says in what they think of it."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    return next((one for one in chain if isinstance(one, DataError)), None) or [one for one in chain if isinstance(one, ValueError)][-1]
