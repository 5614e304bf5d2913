"""Errors in words for the person who can mend them."""

from __future__ import annotations


class DataError(ValueError):
    """Files that cannot be used (exit code 1); other ValueErrors are about arguments (2)."""
