"""Fixtures of this folder."""

from support.entry_rows import line
from support.eviction_cases import case

__all__ = ["case", "line"]
