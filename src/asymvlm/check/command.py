"""The command: one line on stderr for what is wrong, or one on stdout."""

from __future__ import annotations

import sys

from ..errors import DataError
from .directory import check_directory
from .schema import FORMAT, FORMAT_VERSION


def main(arguments: list[str]) -> int:
    """Check a directory.

    Exit code 0 for a valid one, 1 for any other, 2 for a wrong call.
    """
    if len(arguments) != 1:
        print("usage: asymvlm check DIRECTORY", file=sys.stderr)
        return 2
    try:
        check_directory(arguments[0])
    except DataError as fault:
        print(fault, file=sys.stderr)
        return 1
    print(f"{arguments[0]}: a valid {FORMAT} checkpoint, format version {FORMAT_VERSION}")
    return 0
