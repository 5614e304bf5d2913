"""Fixtures of this folder."""

from support.eviction_cases import case

__all__ = ["case"]
