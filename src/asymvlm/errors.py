"""Errors whose one-line message names the fault and the fix."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_OF_THE_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
)


class DataError(ValueError):
    """Files that cannot be used (exit code 1); other ValueErrors are about arguments (2)."""


@contextmanager
def renamed_arguments(names: Mapping[str, str]) -> Iterator[None]:
    """Rename arguments in errors while open, for a caller that has other names for them.

    Messages begin with the argument at fault: "path: ..." becomes "data.path: ..." where `names`
    has path and data.path. The same error is raised on.
    """
    try:
        yield
    except ValueError as error:
        name, colon, rest = str(error).partition(":")
        first, dot, inner = name.partition(".")
        if colon and first in names:
            error.args = (f"{names[first]}{dot}{inner}:{rest}", *error.args[1:])
        raise


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; its class's name where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def disk_error(error: BaseException, place: Path | None = None) -> str | None:
    """Find what the disk said, as "file: no room"; None where an error is about something else.

    The file is `place`, unless it lies in another folder.
    """
    found: BaseException | None = error
    while found is not None:
        for number in _OF_THE_DISK:
            # Libraries in other languages have errors of their own.
            if getattr(found, "errno", None) == number or os.strerror(number) in str(found):
                file = getattr(found, "filename", None)
                if "shared memory" in str(found):
                    file = "/dev/shm, the shared memory of loader workers"
                elif file is None or (place and str(file).startswith(str(place.parent))):
                    file = place or "a file"
                return f"{file}: {os.strerror(number)}"
        found = found.__cause__ or found.__context__
    return None
