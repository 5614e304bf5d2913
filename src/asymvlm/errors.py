"""What went wrong, in words for the person who can mend it."""

from __future__ import annotations


class DataError(ValueError):
    """The files given cannot be used (exit code 1). Every other ValueError is about how something was asked for (2)."""
