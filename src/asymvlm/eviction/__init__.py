"""Text entries that leave the KV cache while decoding. One policy, one file, one class."""

from __future__ import annotations

from .base import Entries, Evictor
from .evicting import evict
from .report import EvictionReport

__all__ = ["Entries", "EvictionReport", "Evictor", "evict", "evictors"]


def evictors() -> dict[str, type[Evictor]]:
    """All built-in policies by name."""
    from ..discovery import discover

    return discover(__name__, Evictor)
