"""Text entries that leave the KV cache while decoding.

`evict` keeps the cache within a budget; what leaves is decided by one of `policies`. Evaluation and
training may import it; it imports backbone, selectors and storage.
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
