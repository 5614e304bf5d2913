"""Eviction of text entries from the KV cache while decoding.

`evict` keeps the cache within a budget; the entries that leave are chosen by one of `policies`.
Imports backbone, engine, errors, limits, registry, selectors, storage and typing.
"""

from __future__ import annotations

from .base import Entries, Evictor
from .evict import evict
from .report import EvictionReport

__all__ = ["Entries", "EvictionReport", "Evictor", "evict", "evictors"]


def evictors() -> dict[str, type[Evictor]]:
    """List all built-in policies by name."""
    from ..registry import discover

    return discover(f"{__name__}.policies", Evictor)
